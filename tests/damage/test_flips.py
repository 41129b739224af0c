"""A flipped bit or a cut, anywhere: fsck finds it and names whom it affects, and no load gives other bytes for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.damage.everything import everything
from tests.damage.explore import explore
from tests.damage.harm import Bench, Harm, all_harms, complaint, sampled

_OF_EACH_FILE = 6  # tools/damage_explore: of every byte


@pytest.mark.usefixtures("one_thread")
def test_harm_to_any_file_is_found_or_costs_nothing(tmp_path: Path) -> None:
    store = everything(tmp_path / "store")
    files = [name for name in store.files() if not name.startswith("index/")]
    assert {name.split("/")[0] for name in files} >= {
        *("HEAD", "accessed", "audit", "castore.toml", "dropped", "events", "logs", "maintenance"),
        *("packs", "pins", "refs", "signatures", "tiers", "verified"),
    }
    bench = Bench(store, tmp_path / "spare")
    for seed, name in enumerate(files):
        for harm in sampled(all_harms(store, name), _OF_EACH_FILE, seed):
            assert complaint(harm, bench.see(harm), store) is None


@pytest.mark.usefixtures("one_thread")
def test_harm_to_the_index_costs_nothing(tmp_path: Path) -> None:
    store = everything(tmp_path / "store")
    content = (store.path / "index/data.mdb").read_bytes()
    harms = [Harm("index/data.mdb", bit=8 * at + at % 8) for at in range(len(content)) if content[at]]
    for name, chosen in (("index/data.mdb", harms), ("index/boot", all_harms(store, "index/boot"))):
        tally = explore(store, name, sampled(chosen, 25, 7), tmp_path / f"spare-{len(chosen)}")
        assert tally.failures == []
