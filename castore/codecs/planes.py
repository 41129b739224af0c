"""Codec 2: byte planes of the words; those of floats rotated left by one bit, so that the top plane is all exponent."""

from __future__ import annotations

from castore.codecs.byte_planes import PlaneCodec
from castore.kernels.reference import Transform

CODEC = PlaneCodec(2, "planes", is_delta=False, of_integers=Transform.PLAIN, of_floats=Transform.ROTATE)
