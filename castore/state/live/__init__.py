"""States: live Python values with tensors <-> tree nodes, without a copy where memory allows it."""

from __future__ import annotations

from castore.state.live.building import Builder
from castore.state.live.filling import InPlace, fill_in_place
from castore.state.live.flattening import Flat, flatten
from castore.state.live.rng import rng_state, set_rng_state
from castore.state.live.sources import TensorSource

__all__ = ["Builder", "Flat", "InPlace", "TensorSource", "fill_in_place", "flatten", "rng_state", "set_rng_state"]
