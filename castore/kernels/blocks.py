"""Sizes that the coders of tokens, their typed surfaces and the codecs must agree on. Loads nothing."""

from __future__ import annotations

LANES = 16  # words that a vector step does; arrays are multiples of it
UNIT = 256  # words that are counted, or left out, together
BLOCK = 1024  # words that go through all steps before the next ones
STATES = 4  # of the coder of tokens, which take turns
RANS_LANES = 64  # states of the one for processors that do many at once
MOST_TABLE_BITS = 11  # log2 of the states that a table has
ROW = 64  # tokens that a context has room for
SPARE_BYTES = 2 * 8 * BLOCK + 16  # for a copy, with room around it, of what a block may read of tokens or fields
