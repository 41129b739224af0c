"""Links, pipes and devices in a store in place of its files: nothing outside is changed, and nothing waits for ever."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

import castore
from castore.errors import CastoreError, CorruptError
from castore.store import Store
from tests.crashes.explore import scratch
from tests.samples import state

WORK: dict[str, Callable[[Store], object]] = {
    "log": lambda store: [list(store.log()), store.tags(), store.reflog(), store.drops(), store.pins(), store.signed()],
    "load": lambda store: store.load("main"),
    "audit": lambda store: [store.audit(), store.check_audit(), store.metrics()],
    "commit": lambda store: store.commit(state(4)),
    "tag": lambda store: [store.tag("t/x", force=True), store.delete_tag("t/x")],
    "branch": lambda store: [store.branch("b/x"), store.delete_branch("b/x", force=True)],
    "pin": lambda store: [store.pin("main"), store.prune({"keep_last": 1})],
    "fsck": lambda store: store.fsck(read_data=True, repair=True),
    "repack": lambda store: store.repack(),
    "gc": lambda store: store.gc(),
}
DIRECTORIES = [
    *("packs", "packs/*", "incoming", "quarantine", "index", "refs", "refs/heads", "refs/tags", "logs", "logs/refs"),
    *("logs/refs/heads", "signatures", "signatures/commits", "signatures/tags"),
]
FILES = [
    *(
        "castore.toml",
        "HEAD",
        "refs/heads/main",
        "refs/tags/t/x",
        "logs/HEAD",
        "logs/refs/heads/main",
        "lock",
        "index/boot",
    ),
    *("index/data.mdb", "index/lock.mdb", "packs/*/*.pack", "incoming/1-a.pack", "dropped", "pins", "tiers", "audit"),
    *("mirrors", "accessed", "verified", "events", "events.1", "events.lock", "maintenance", "maintenance.lock"),
    *("repack.lock", "signatures/commits/X", "signatures/tags/t/x"),
]
NAMES_THERE = ("main", "f.pack", "ab" * 16 + ".pack", ".main.1.ab.tmp", "x", "data.mdb")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("template")
    with castore.open(root, create=True) as store:
        for seed in (1, 2):
            store.commit(state(seed))
        store.tag("t/x")
    return root


@pytest.fixture
def outside() -> Iterator[Path]:
    """A directory in memory, where a sync costs nothing."""
    with scratch() as root:
        yield Path(root)


@pytest.fixture
def path(template: Path, outside: Path) -> Path:
    shutil.copytree(template, outside / "s")
    return outside / "s" / ".castore"


@contextmanager
def limited(seconds: int = 150) -> Iterator[None]:
    """End the body where it waits for what never comes."""

    def end(*_: object) -> None:
        raise TimeoutError("waited for ever")

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def places(path: Path, pattern: str) -> Path:
    """The first place of a store that a pattern fits, with its directories."""
    found = next(iter(sorted(path.glob(pattern))), path / pattern.replace("X", "0f" * 16))
    found.parent.mkdir(parents=True, exist_ok=True)
    return found


def do_everything(path: Path) -> set[str]:
    """What could be done."""
    done = set()
    for name, work in WORK.items():
        with limited(), suppress(CastoreError), castore.open(path) as store:
            work(store)
            done.add(name)
    return done


def content(directory: Path) -> dict[str, bytes]:
    return {one.name: one.read_bytes() for one in directory.iterdir()}


@pytest.mark.parametrize("name", DIRECTORIES)
def test_a_link_in_place_of_a_directory_harms_nothing_behind_it(path: Path, outside: Path, name: str) -> None:
    """With what it needs to be believed behind it, and the names that castore deletes and replaces."""
    place = places(path, name)
    victim = outside / "victim"
    shutil.copytree(place, victim) if place.exists() else victim.mkdir()
    shutil.rmtree(place, ignore_errors=True)
    for one in NAMES_THERE:
        if not (victim / one).exists():
            (victim / one).write_bytes(b"precious")
    before = {one: one.read_bytes() for one in victim.rglob("*") if one.is_file()}
    place.symlink_to(victim)
    with pytest.raises(CorruptError, match="symbolic link"):
        castore.open(path)
    assert do_everything(path) == set()
    assert {one: one.read_bytes() for one in victim.rglob("*") if one.is_file()} == before


@pytest.mark.parametrize("name", FILES)
def test_a_link_in_place_of_a_file_changes_nothing_behind_it(path: Path, outside: Path, name: str) -> None:
    place = places(path, name)
    (outside / "victim").mkdir()
    victim = outside / "victim" / place.name
    if place.exists() and place.stat().st_size:
        shutil.copy(place, victim)
    else:
        victim.write_bytes(b"precious")
    before = content(victim.parent)
    place.unlink(missing_ok=True)
    place.symlink_to(victim)
    do_everything(path)
    assert content(victim.parent) == before


@pytest.mark.parametrize("name", FILES)
def test_a_pipe_in_place_of_a_file_is_waited_for_by_nobody(path: Path, name: str) -> None:
    place = places(path, name)
    place.unlink(missing_ok=True)
    os.mkfifo(place)
    do_everything(path)


def test_a_device_in_place_of_a_pack_is_refused(path: Path) -> None:
    place = places(path, "packs/*/*.pack")
    place.unlink()
    try:
        os.mknod(place, 0o600 | 0o020000, os.makedev(1, 5))  # /dev/zero
    except PermissionError:
        place.symlink_to("/dev/zero")
    with limited(), castore.open(path) as store:
        assert not store.fsck().ok


def test_what_is_left_alone_is_what_castore_does_not_name(path: Path, outside: Path) -> None:
    (outside / "notes").write_text("mine")
    (path / "notes").symlink_to(outside / "notes")
    assert do_everything(path) == set(WORK)
    assert (path / "notes").read_text() == "mine"
