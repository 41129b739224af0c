"""Imported by the server that the tests' processes are forked from: does once what they do, so that none of them is
busy for its first quarter of a second with loading what the others have loaded too."""

from __future__ import annotations

import tempfile
from pathlib import Path

import castore
from tests.samples import state
from tests.tiered import tiered
from tests.workers import UPKEEP

RUN = castore.Run()  # which each process would gather for itself, at its first commit

with (
    tempfile.TemporaryDirectory() as root,
    tiered(Path(root), "[tiers.archive]\ndirectory = 'copies'\n") as store,
):
    for seed in range(3):
        store.commit(state(seed), tier="archive", run=RUN)
    store.maintain(only=UPKEEP, force=True)
    store.load("main")
