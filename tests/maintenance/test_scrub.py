"""The scrub reads every byte once a round, in shares, goes on where it was stopped, and names whom damage affects."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch

import castore
from castore.maintenance.pace import Pace
from castore.maintenance.reports import ScrubReport
from castore.maintenance.upkeep.scrub import scrub
from castore.maintenance.upkeep.state import NAME, State
from castore.progress import Silent
from castore.store import Store
from tests import workers
from tests.processes import finish, start
from tests.samples import assert_sound, flip, packs, state

DAY = 86400.0


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return castore.open(tmp_path, create=True)


def fill(store: Store, count: int = 6, elements: int = 30_000) -> list[str]:
    """Commits that share nothing, each in a pack of its own."""
    return [
        store.commit({"w": torch.randn(elements), "b": torch.randn(500 + seed)}, step=seed).id for seed in range(count)
    ]


def stored(store: Store) -> int:
    return sum(path.stat().st_size for path in packs(store))


def whole(store: Store) -> ScrubReport:
    found = store.scrub()
    assert found is not None
    return found


class Stop(Silent):
    """Ends the scrub by Ctrl-C after so many records."""

    def __init__(self, after: int) -> None:
        self._left = after

    def advance(self, amount: int) -> None:
        self._left -= 1
        if not self._left:
            raise KeyboardInterrupt


def test_a_round_reads_every_record_and_finds_nothing_in_a_sound_store(store: Store) -> None:
    fill(store)
    report = whole(store)
    assert (report.done, report.finished, report.share, report.errors) == (True, True, 1.0, ())
    assert 0.95 * stored(store) < report.read_bytes < stored(store)  # footers are read beside
    again = whole(store)
    assert again.read_bytes == report.read_bytes


def test_an_empty_store_has_an_empty_round(store: Store) -> None:
    report = whole(store)
    assert (report.finished, report.read_bytes, report.errors) == (True, 0, ())


@pytest.mark.parametrize("after", [1, 2, 5, 11])
def test_an_interrupted_round_goes_on_with_the_record_where_it_was(tmp_path: Path, after: int) -> None:
    with castore.open(tmp_path, create=True) as store:
        fill(store)
        everything = whole(store).read_bytes
    with castore.open(tmp_path, progress=Stop(after)) as store, pytest.raises(KeyboardInterrupt):
        store.scrub()
    with castore.open(tmp_path) as store:
        before = State.read(store.path).scrub
        assert before.began is not None and before.offset > 0
        rest = whole(store)
        assert rest.finished and 0 < rest.read_bytes < everything


def test_damage_in_any_record_is_found_and_told_of_by_whichever_run_comes_to_it(tmp_path: Path) -> None:
    with castore.open(tmp_path, create=True) as store:
        fill(store, 3)
        entries = [(path, e) for path in packs(store) for e in store.repository.chunks.files.footer(id_of(path))]
    found_by = set()
    for number, (path, entry) in enumerate(entries, 1):
        flip(path, entry.offset)
        with castore.open(tmp_path, progress=Stop(4)) as store, pytest.raises(KeyboardInterrupt):
            store.scrub()
        with castore.open(tmp_path) as store:
            found = [error.record for error in whole(store).errors]
            assert store.repository.events.tally().counts["alert", "damage"] == number
            assert State.read(store.path).scrub.damaged_before == 1
        assert found in ([entry.id.hex()], [])
        found_by.add(len(found))
        flip(path, entry.offset)
    assert found_by == {0, 1}


def id_of(path: Path) -> bytes:
    return bytes.fromhex(path.stem)


def test_damage_is_named_with_the_commits_and_tensors_that_need_it(store: Store) -> None:
    ids = fill(store, 4)
    path = packs(store)[2]
    place = next(
        place
        for _, place in store.repository.chunks.access.index.items()
        if place.raw_length == 120_000 and place.pack == id_of(path)
    )
    flip(path, place.offset + 7)
    (error,) = whole(store).errors
    assert (error.pack, error.commits, error.paths) == (path.name, (ids[2],), ("w",))
    assert "checksum" in error.problem
    assert len(whole(store).errors) == 1  # and in each round anew


def test_a_damaged_footer_hides_no_damage_of_records(store: Store) -> None:
    ids = fill(store, 2)
    path = packs(store)[1]
    flip(path, path.stat().st_size - 60)
    flip(path, 2000)
    errors = whole(store).errors
    assert any("footer" in one.problem for one in errors)
    assert {commit for one in errors for commit in one.commits} == {ids[1]}


def test_a_truncated_pack_and_one_that_is_gone_affect_what_was_in_them(store: Store) -> None:
    ids = fill(store, 3)
    first, second, _ = packs(store)
    with second.open("r+b") as file:
        file.truncate(3000)
    first.unlink()
    with castore.open(store.path) as fresh:  # which knows no object from before
        errors = whole(fresh).errors
    assert any("pack is gone" in one.problem for one in errors)
    assert any("truncated" in one.problem for one in errors)
    assert {commit for one in errors for commit in one.commits} >= set(ids[:2])


def test_each_run_reads_the_share_that_covers_the_store_in_the_set_time(store: Store) -> None:
    fill(store, 20, elements=2000)
    total = stored(store)
    runs = []
    while not runs or not runs[-1].finished:
        runs.append(scrub(store.repository, Pace(), within_s=10 * DAY, every_s=DAY))
        held = State.read(store.path)
        if held.scrub.began is not None:
            held.scrub.began -= DAY  # a day goes by
            held.write(store.path, store.repository.lock)
    assert len(runs) == 10
    assert all(run.done for run in runs)
    record = 2000 * 4 + 2000  # what one may be beyond its share
    assert all(run.read_bytes < total / 10 + record for run in runs)
    assert sum(run.read_bytes for run in runs) == whole(store).read_bytes


def test_a_run_before_its_time_has_nothing_to_read(store: Store) -> None:
    fill(store, 20, elements=2000)
    scrub(store.repository, Pace(), within_s=10 * DAY, every_s=DAY)
    report = scrub(store.repository, Pace(), within_s=10 * DAY, every_s=DAY)
    assert (report.done, report.read_bytes, report.finished) == (True, 0, False)


def test_a_scrub_that_fell_behind_reads_more(store: Store) -> None:
    fill(store, 20, elements=2000)
    scrub(store.repository, Pace(), within_s=10 * DAY, every_s=DAY)
    held = State.read(store.path)
    assert held.scrub.began is not None
    held.scrub.began -= 7 * DAY
    held.write(store.path, store.repository.lock)
    report = scrub(store.repository, Pace(), within_s=10 * DAY, every_s=DAY)
    assert 0.75 < report.share < 0.9


def test_the_deadline_stops_a_scrub_and_it_is_not_done(store: Store) -> None:
    fill(store)
    report = scrub(store.repository, Pace.of(0.0, None))
    assert (report.done, report.finished) == (False, False)
    assert report.read_bytes > 0  # so that every run gets on, however short
    assert whole(store).finished


def test_the_rate_is_kept_to(store: Store) -> None:
    fill(store)
    begun = time.monotonic()
    report = scrub(store.repository, Pace.of(None, 2e6))
    assert time.monotonic() - begun >= 0.99 * report.read_bytes / 2e6


def test_packs_that_gc_deletes_in_the_midst_of_a_round_are_no_damage(tmp_path: Path) -> None:
    class Collect(Silent):
        def advance(self, amount: int) -> None:
            with castore.open(tmp_path) as other:
                other.gc()

    with castore.open(tmp_path, create=True) as store:
        fill(store, 8)
        store.commit({"x": 0})
        store.prune({"keep_last": 1})
    with castore.open(tmp_path, progress=Collect()) as store:
        report = whole(store)
        assert report.finished and report.errors == ()
        assert_sound(store)


def test_a_scrub_beside_commits_and_gc_finds_nothing(tmp_path: Path) -> None:
    with castore.open(tmp_path, create=True) as store:
        store.commit(state(0))
        running = [start(workers.churn, store.path, "side", range(1, 40)), start(workers.collect, store.path, 10)]
        reports = [whole(store) for _ in range(10)]
        finish(running)
        assert [error for report in reports for error in report.errors] == []
        assert_sound(store)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"finished": {}, "scrub": {}}', "\0", "[" * 5000, '{"finished": 5, "scrub": 7}']
)
def test_a_damaged_state_means_that_a_round_begins(store: Store, text: str) -> None:
    fill(store, 2)
    everything = whole(store).read_bytes
    scrub(store.repository, Pace.of(0.0, None))
    (store.path / NAME).write_text(text)
    assert whole(store).read_bytes == everything


def test_a_place_that_there_is_not_any_more_or_never_was_is_passed(store: Store) -> None:
    fill(store, 2)
    scrub(store.repository, Pace.of(0.0, None))
    for pack, offset in (("f" * 32, 1 << 60), ("00", 5), (packs(store)[0].stem, 1 << 60)):
        table = json.loads((store.path / NAME).read_text())
        table["scrub"].update(pack=pack, offset=offset, began=time.time())
        (store.path / NAME).write_text(json.dumps(table))
        assert whole(store).finished


def test_a_clock_that_went_back_is_said_and_the_round_goes_on(store: Store) -> None:
    fill(store)
    scrub(store.repository, Pace.of(0.0, None))
    held = State.read(store.path)
    assert held.scrub.began is not None
    held.scrub.began += 50 * DAY
    held.write(store.path, store.repository.lock)
    report = scrub(store.repository, Pace(), within_s=10 * DAY, every_s=DAY)
    assert len(report.warnings) == 1 and "clock" in report.warnings[0]
    assert State.read(store.path).scrub.began == pytest.approx(time.time(), abs=60)


def test_a_pack_that_the_index_leaves_out_is_read_too(store: Store) -> None:
    fill(store, 2)
    path = packs(store)[0]
    flip(path, path.stat().st_size - 30)
    (store.path / "index" / "data.mdb").unlink()
    with castore.open(store.path) as other:
        assert [error.pack for error in whole(other).errors] == [path.name]


@pytest.mark.parametrize("name", ["pins", "logs/refs/heads/main", "audit", "refs/heads/main"])
def test_files_that_are_no_packs_are_checked_in_every_run(store: Store, name: str) -> None:
    fill(store, 2)
    store.pin("main~1", "of use")
    flip(store.path / name, 5)
    for _ in range(2):
        report = store.scrub(time_s=1e-9)
        assert report is not None and report.errors, name
    flip(store.path / name, 5)
    assert whole(store).errors == ()
