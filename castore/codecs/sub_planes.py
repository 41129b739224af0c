"""Codec 4: byte planes of the zigzag of the wrapping difference of the words to the base's (floats: of their bits)."""

from __future__ import annotations

from castore.codecs.byte_planes import PlaneCodec
from castore.kernels.reference import Transform

CODEC = PlaneCodec(4, "sub-planes", is_delta=True, of_integers=Transform.SUB, of_floats=Transform.SUB)
