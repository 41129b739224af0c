"""Codec 3: byte planes of the words XOR the base's.

Not rotated: measured on trained weights, a float's changed bits lie together at the low end, where a rotation by one
spreads them into another plane.
"""

from __future__ import annotations

from castore.codecs.byte_planes import PlaneCodec
from castore.kernels.reference import Transform

CODEC = PlaneCodec(3, "xor-planes", is_delta=True, of_integers=Transform.XOR, of_floats=Transform.XOR)
