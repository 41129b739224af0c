"""What is interrupted: one function a scenario. It makes a store, then does with it what is recorded."""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import torch

import castore
from castore import config, repo
from castore.chunks import blocks
from castore.objects.commit import Commit
from castore.store import Store
from castore.testing.power_cuts import Recording, Trace, cuts, put_cut, put_killed, recording
from castore.testing.survival import NOTHING, Account
from tests.chunks import fixture_v1
from tests.samples import flip, packs
from tests.tiered import tiered

START = datetime.now(timezone.utc) - timedelta(days=1)
LONG_AGO = START - timedelta(days=400)


def state(seed: int) -> dict[str, Any]:
    """Three chunks that move a little from seed to seed, one that never does, and a number."""
    step = torch.randn(2500, generator=torch.Generator().manual_seed(seed))
    return {"model": {"weight": torch.arange(2500) / 7 + 1e-4 * step}, "frozen": torch.arange(900), "step": seed}


def in_pages(seed: int) -> torch.Tensor:
    """Three chunks, each a page of memory."""
    memory = torch.frombuffer(mmap.mmap(-1, 3 * mmap.PAGESIZE), dtype=torch.float32)
    return memory.copy_(torch.randn(len(memory), generator=torch.Generator().manual_seed(seed)))


@dataclass(slots=True)
class Scene:
    """root: where the store is made. states: what was committed, by commit id. traces: what was recorded.

    is_damaged: the store was when it began, and `fsck --repair` is to make it whole.
    """

    root: Path
    is_damaged: bool = False
    states: dict[str, Any] = field(default_factory=dict)
    traces: list[Trace] = field(default_factory=list)

    def open(self, progress: castore.progress.Progress | None = None) -> Store:
        path = self.root / ".castore"
        if not path.exists():
            repo.create(path, config.Config(chunk_elements=1024, max_depth=2))
        return castore.open(path, progress=progress)

    def commit(
        self,
        store: Store,
        seed: int,
        branch: str = "main",
        time: datetime | None = None,
        tier: str | None = None,
        effort: str = "full",
    ) -> Commit:
        """Commit `state(seed)`."""
        return self.commit_state(store, state(seed), branch, time, tier, seed, effort)

    def commit_state(
        self,
        store: Store,
        state: Any,
        branch: str = "main",
        time: datetime | None = None,
        tier: str | None = None,
        step: int | None = None,
        effort: str = "full",
    ) -> Commit:
        """Commit a state a second later than the one before, or at `time`: its id is the same at each time."""
        time = time or START + timedelta(seconds=len(self.states))
        made = store.commit(
            state, branch, f"state {step}", step=step, tier=tier, author="scenario", time=time, effort=effort
        )
        self.states[made.id] = state
        return made

    @contextlib.contextmanager
    def recorded(self, known: Store | Account) -> Iterator[Recording]:
        """Record what is done to the store. known: what it says when this begins."""
        with recording(self.root) as record:
            record.acknowledge(known)
            yield record
        self.traces.append(record.trace())


SCENARIOS: dict[str, Callable[[Scene], None]] = {}


def scenario(play: Callable[[Scene], None]) -> Callable[[Scene], None]:
    """Enter a scenario into the table, by its function's name."""
    SCENARIOS[play.__name__.replace("_", " ")] = play
    return play


@scenario
def first_commit(scene: Scene) -> None:
    """A store is made, and gets its first commit."""
    with scene.recorded(NOTHING) as record, castore.open(scene.root, create=True) as store:
        record.acknowledge(store)
        scene.commit(store, 1)
        record.acknowledge(store)


@scenario
def delta_commit(scene: Scene) -> None:
    """Commits of which most chunks are deltas to their parents', the second on top of the first."""
    with scene.open() as store:
        scene.commit(store, 1)
        with scene.recorded(store) as record:
            for seed in (2, 3):
                assert scene.commit(store, seed).stats.total.delta_bytes > 0
                record.acknowledge(store)


@scenario
def commit_in_haste(scene: Scene) -> None:
    """Commits that are left as they are, in blocks and from whole pages that go past the page cache, the second on top
    of the first."""
    with scene.open() as store:
        scene.commit(store, 1)
        whole, apart = blocks.BLOCK_BYTES, blocks.APART_BYTES
        blocks.BLOCK_BYTES, blocks.APART_BYTES = 8192, 4096  # a state of these scenarios would not fill one
        try:
            with scene.recorded(store) as record:
                for seed in (2, 3):
                    staged = {**state(seed), "staged": in_pages(seed)}
                    made = scene.commit_state(store, staged, step=seed, effort="fast")
                    assert made.stats.total.delta_bytes == 0
                    record.acknowledge(store)
        finally:
            blocks.BLOCK_BYTES, blocks.APART_BYTES = whole, apart


@scenario
def same_state_again(scene: Scene) -> None:
    """A commit that finds all its chunks in the store, then one that it shares some with."""
    with scene.open() as store:
        scene.commit(store, 1)
        scene.commit(store, 2)
        with scene.recorded(store) as record:
            scene.commit(store, 1)
            record.acknowledge(store)
            scene.commit(store, 1, branch="team/other")
            record.acknowledge(store)


class _Meanwhile(castore.progress.Silent):
    """Does something of its own the first time that a phase of a commit is over: its chunks lie in `incoming/`."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._work: Callable[[], None] | None = work

    def finish(self) -> None:
        work, self._work = self._work, None
        if work is not None:
            work()


@scenario
def concurrent_commits(scene: Scene) -> None:
    """While one process commits to main, others commit to other branches, from begin to end."""

    def others() -> None:
        with scene.open(_Meanwhile(another)) as other:
            scene.commit(other, 11, branch="one")
            record.acknowledge(other)

    def another() -> None:
        with scene.open() as other:
            scene.commit(other, 12, branch="two")
            record.acknowledge(other)

    with scene.open() as store:
        scene.commit(store, 1)
        store.branch("one")
        with scene.open(_Meanwhile(others)) as first, scene.recorded(store) as record:
            scene.commit(first, 2)
            record.acknowledge(first)


@scenario
def gc(scene: Scene) -> None:
    """Packs that go, packs that are copied for the little in them that lives, and reflog entries that expire."""
    with scene.open() as store:
        scene.commit(store, 1, time=LONG_AGO)
        scene.commit(store, 2)
        for seed in (20, 21):
            scene.commit(store, seed, branch="rest")
        shared = {"shared": torch.arange(300) // 2}
        scene.commit_state(store, {**state(22), **shared}, "gone")
        scene.commit_state(store, shared, "keeps")
        store.delete_branch("rest", force=True)
        store.delete_branch("gone", force=True)
        with scene.recorded(store) as record:
            report = store.gc()
            assert report.removed_packs and report.rewritten_packs and report.expired_reflog_entries
            record.acknowledge(store)


@scenario
def commit_during_gc(scene: Scene) -> None:
    """Between mark and sweep another process commits what gc is about to take."""

    def commits() -> None:
        with scene.open() as other:
            scene.commit(other, 21, branch="back")
            record.acknowledge(other)

    with scene.open() as store:
        scene.commit(store, 1)
        scene.commit(store, 20, branch="rest")
        scene.commit(store, 21, branch="rest")
        store.delete_branch("rest", force=True)
        with scene.open(_Meanwhile(commits)) as collector, scene.recorded(store) as record:
            collector.gc()
            record.acknowledge(collector)


@scenario
def branches(scene: Scene) -> None:
    """Branches are made, moved and deleted, and one takes the place of a directory of others."""
    with scene.open() as store:
        scene.commit(store, 1)
        scene.commit(store, 2)
        store.branch("team/one")
        with scene.recorded(store) as record:
            for change in (
                lambda: store.branch("team/two", "main~1"),
                lambda: store.branch("team/two", "main", force=True),
                lambda: store.delete_branch("team/one"),
                lambda: store.delete_branch("team/two"),
                lambda: store.branch("team", "main~1"),
            ):
                change()
                record.acknowledge(store)


@scenario
def tags(scene: Scene) -> None:
    """Tags are made, moved and deleted."""
    with scene.open() as store:
        scene.commit(store, 1)
        scene.commit(store, 2)
        with scene.recorded(store) as record:
            for change in (
                lambda: store.tag("v/1", "main~1"),
                lambda: store.tag("v/1", "main", force=True),
                lambda: store.delete_tag("v/1"),
                lambda: store.tag("v"),
            ):
                change()
                record.acknowledge(store)


@scenario
def prune_and_gc(scene: Scene) -> None:
    """States are dropped, and what they took is collected; then one of them is committed again."""
    with scene.open() as store:
        for seed in range(4):
            scene.commit(store, seed)
        with scene.recorded(store) as record:
            store.prune({"keep_last": 1})
            record.acknowledge(store)
            store.gc()
            record.acknowledge(store)
            scene.commit(store, 2)
            record.acknowledge(store)


@scenario
def pins(scene: Scene) -> None:
    """A commit that no branch leads to is pinned, then let go of and collected."""
    with scene.open() as store:
        scene.commit(store, 1)
        lone = scene.commit(store, 2, branch="lone").id
        with scene.recorded(store) as record:
            for change in (
                lambda: store.pin(lone, "of use"),
                lambda: store.delete_branch("lone", force=True),
                lambda: store.gc(),
                lambda: store.unpin(lone),
                lambda: store.gc(),
            ):
                change()
                record.acknowledge(store)


@scenario
def reflog_expiry(scene: Scene) -> None:
    """Old entries of several logs go."""
    with scene.open() as store:
        scene.commit(store, 1, time=LONG_AGO)
        scene.commit(store, 2, branch="other", time=LONG_AGO)
        scene.commit(store, 3)
        with scene.recorded(store) as record:
            assert store.expire_reflog(None, START - timedelta(days=1)) == 3
            record.acknowledge(store)


@scenario
def switch(scene: Scene) -> None:
    """HEAD follows another branch, which then gets a commit."""
    with scene.open() as store:
        scene.commit(store, 1)
        store.branch("other")
        with scene.recorded(store) as record:
            store.switch("other")
            record.acknowledge(store)
            scene.commit(store, 2, branch="other")
            record.acknowledge(store)


@scenario
def index_rebuild(scene: Scene) -> None:
    """The index is made where there is none, and once more by force, as fsck --repair does."""
    with scene.open() as store:
        scene.commit(store, 1)
        scene.commit(store, 2)
        known = Account.of(store)
    castore._fs.remove_tree(scene.root / ".castore" / "index")
    with scene.recorded(known) as record, scene.open() as store:
        store.repository.chunks.access.rebuild()
        scene.commit(store, 3)
        record.acknowledge(store)


@scenario
def format_upgrade(scene: Scene) -> None:
    """A store of version 1 gets its first commit and gc by a castore that writes version 2."""
    fixture_v1.copy_of_the_store(scene.root / ".castore")
    with scene.open() as store:
        for commit in store.log("main"):
            scene.states[commit.id] = fixture_v1.state(commit.step)
        for name in ("kept", "gone"):
            scene.states[store.resolve(name)] = store.load(name)
        with scene.recorded(store) as record:
            scene.commit_state(store, fixture_v1.state(3))
            record.acknowledge(store)
            store.delete_branch("gone", force=True)
            record.acknowledge(store)
            store.gc()
            record.acknowledge(store)


@scenario
def repack(scene: Scene) -> None:
    """Deltas are placed anew, and small packs merged."""
    with scene.open() as store:
        for seed in range(1, 5):
            scene.commit(store, seed)
        with scene.recorded(store) as record:
            report = store.repack()
            assert report.encoded_chunks and report.after_packs < report.before_packs
            record.acknowledge(store)


@scenario
def tier_copy(scene: Scene) -> None:
    """Commits of a tier are copied to a second directory, which is a store of its own, twice."""
    scene.open().close()
    (scene.root / "disk2").mkdir()
    with tiered(scene.root, "[tiers.archive]\ndirectory = 'disk2/copies'\n") as store:
        scene.commit(store, 1, tier="archive")
        scene.commit(store, 2)
        with scene.recorded(store) as record:
            _mirror(store)
            record.acknowledge(store)
            scene.commit(store, 3, tier="archive")
            record.acknowledge(store)
            _mirror(store)
            record.acknowledge(store)


def _mirror(store: Store) -> None:
    """Copy, and raise what a directory is left out for, which the report says."""
    for done in store.mirror().directories:
        if done.error is not None:
            raise done.error


@scenario
def repair_from_copy(scene: Scene) -> None:
    """What is damaged and lost is taken from the directory of a tier, and damaged packs are put out of service."""
    scene.open().close()
    (scene.root / "disk2").mkdir()
    with tiered(scene.root, "[tiers.archive]\ndirectory = 'disk2/copies'\n") as store:
        for seed in (1, 2):
            scene.commit(store, seed, tier="archive")
        store.mirror()
        first, second = packs(store)
        scene.commit(store, 3)
    flip(first, 100)
    second.unlink()
    scene.is_damaged = True
    with scene.open() as store, scene.recorded(store) as record:
        report = store.fsck(repair=True)
        assert report.ok and any(line.startswith("took ") for line in report.repaired)
        record.acknowledge(store)


@scenario
def second_cut(scene: Scene) -> None:
    """The power goes once more while the store is put to use after a cut that left all sorts of remains."""
    before = Scene(scene.root.with_name(scene.root.name + ".before"))
    before.root.mkdir()
    SCENARIOS["concurrent commits"](before)
    scene.states.update(before.states)
    position = before.traces[0].acknowledged[-1].after - 3  # the reflog has its line, the ref waits for its rename
    put_cut(next(cuts(before.traces[0], ["everything"], only=position)), scene.root)
    with scene.recorded(before.traces[0].told(position)[0]) as record, scene.open() as store:
        record.acknowledge(store)
        scene.commit(store, 3)
        record.acknowledge(store)
        store.gc()
        record.acknowledge(store)


def _go_on_after_kills(scene: Scene, action: Callable[[Store], object], index_is_lost: bool = False) -> None:
    """A process is killed in an action, each time before another sync of a directory: what it did can be seen and is
    not durable. Another one acts on what it sees, and then the power goes."""
    with scene.open() as store, scene.recorded(store):
        action(store)
    whole = scene.traces.pop()
    for position, operation in enumerate(whole.operations):
        if operation.name == "sync_dir":
            killed = whole.until(position)
            put_killed(killed, scene.root)
            if index_is_lost:
                castore._fs.remove_tree(scene.root / ".castore" / "index")
            with recording(scene.root, killed) as record, scene.open() as store:
                record.acknowledge(store, promised=False)
                scene.commit(store, 5)
                record.acknowledge(store)
                store.gc()
                record.acknowledge(store)
            scene.traces.append(record.trace())


@scenario
def commit_killed(scene: Scene) -> None:
    """The state is committed again by another process, which finds its chunks in the pack of the first."""
    with scene.open() as store:
        scene.commit(store, 1)
    _go_on_after_kills(scene, lambda store: scene.commit(store, 5), index_is_lost=True)


@scenario
def deletion_killed(scene: Scene) -> None:
    """What the branch and the tag led to is collected by another process, for which they are gone."""
    with scene.open() as store:
        scene.commit(store, 1)
        scene.commit(store, 2, branch="team/rest")
        scene.commit(store, 3, branch="other")
        store.tag("old", "other")
        store.delete_branch("other", force=True)

    def delete(store: Store) -> None:
        store.delete_branch("team/rest", force=True)
        store.delete_tag("old")

    _go_on_after_kills(scene, delete)


@scenario
def prune_killed(scene: Scene) -> None:
    """What was dropped is collected by another process, which reads that it was."""
    with scene.open() as store:
        for seed in range(1, 4):
            scene.commit(store, seed)
    _go_on_after_kills(scene, lambda store: store.prune({"keep_last": 1}))


@scenario
def gc_killed(scene: Scene) -> None:
    """Another process finishes what a gc began."""
    with scene.open() as store:
        scene.commit(store, 1, time=LONG_AGO)
        for seed in (20, 21):
            scene.commit(store, seed, branch="rest")
        store.delete_branch("rest", force=True)
    _go_on_after_kills(scene, lambda store: store.gc())


def played(name: str, root: Path) -> Scene:
    """Play a scenario in `root`, a directory of its own."""
    scene = Scene(root)
    root.mkdir()
    SCENARIOS[name](scene)
    return scene
