"""Every change of a store has its entry in the audit log, and the log tells when a ref was changed past it."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import pytest

import castore
from castore.errors import StorageError
from castore.store import Store
from castore.testing import faults
from tests import workers
from tests.processes import finish, start
from tests.samples import packs, state


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return castore.open(tmp_path, create=True)


def told(store: Store) -> list[tuple[str, str]]:
    """(action, subject) of the entries, oldest first, without the one that the store was made with."""
    first, *rest = store.audit()[::-1]
    assert first.event.action == "init"
    return [(entry.event.action, entry.event.subject) for entry in rest]


def test_every_change_has_its_entry(store: Store, tmp_path: Path) -> None:
    first = store.commit(state(1), step=1)
    second = store.commit(state(2), step=2, author="somebody else")
    store.branch("side", first.id)
    store.switch("side")
    store.switch("main")
    store.tag("v1", first.id)
    store.tag("v1", second.id, force=True)
    store.pin(first.id, "in the paper")
    store.checkout(second.id, tmp_path / "out.pt")
    store.unpin(first.id)
    store.delete_tag("v1")
    store.delete_branch("side")
    store.prune({"keep_last": 1})
    store.expire_reflog(None, datetime.now(timezone.utc))
    store.expire_reflog("main", datetime.now(timezone.utc))
    store.gc()
    store.gc(dry_run=True)
    assert told(store) == [
        ("commit", "refs/heads/main"),
        ("commit", "refs/heads/main"),
        ("branch", "refs/heads/side"),
        ("switch", "HEAD"),
        ("switch", "HEAD"),
        ("tag", "refs/tags/v1"),
        ("tag", "refs/tags/v1"),
        ("pin", first.id),
        ("checkout", second.id),
        ("unpin", first.id),
        ("delete", "refs/tags/v1"),
        ("delete", "refs/heads/side"),
        ("prune", first.id),
        ("expire", ""),
        ("expire", "refs/heads/main"),
        ("gc", ""),
    ]
    entries = store.audit()[::-1]
    assert (entries[2].event.old, entries[2].event.new) == (first.id, second.id)
    assert entries[2].event.detail == "step 2"
    assert "somebody" not in entries[2].who
    assert entries[13].event.detail == "dropped by --keep-last 1"
    report = store.check_audit()
    assert (report.ok, report.notes, report.entries) == (True, (), 17)


def test_gc_names_the_commits_that_it_removes(store: Store) -> None:
    store.commit(state(1))
    gone = store.commit(state(2), branch="gone")
    store.delete_branch("gone", force=True)
    store.gc()
    assert told(store)[-2:] == [("gc", ""), ("remove", gone.id)]


def test_a_repair_has_its_entry(store: Store) -> None:
    store.commit(state(1))
    (pack,) = packs(store)
    data = bytearray(pack.read_bytes())
    data[-20] ^= 1
    pack.chmod(0o600)
    pack.write_bytes(data)
    with castore.open(store.path) as other:
        other.fsck(repair=True)
    assert told(store)[-1] == ("repair", "")


def test_a_change_that_is_refused_has_no_entry(store: Store) -> None:
    store.commit(state(1))
    before = store.audit()
    for refused in (
        lambda: store.branch("main", "HEAD"),
        lambda: store.tag("v1", "nothing"),
        lambda: store.delete_branch("main", force=True),
        lambda: store.delete_tag("none"),
        lambda: store.unpin("HEAD"),
        lambda: store.checkout("nothing", "out"),
    ):
        with pytest.raises(castore.CastoreError):
            refused()
    assert store.audit() == before


def test_a_commit_is_refused_when_its_entry_cannot_be_written(store: Store) -> None:
    first = store.commit(state(1))
    with faults.record() as recorded:
        store.commit(state(2), branch="trial")
    appends = [number for number, one in enumerate(recorded.operations, 1) if one.name == "append"]
    assert recorded.operations[appends[0] - 1].path.name == "audit"
    with faults.inject("append"), pytest.raises(StorageError):
        store.commit(state(3))
    assert store.resolve("main") == first.id
    assert store.check_audit().ok


def test_death_at_each_operation_of_a_commit_leaves_a_log_that_is_whole(tmp_path: Path) -> None:
    path, acks = tmp_path / ".castore", tmp_path / "acknowledged"
    with castore.open(path, create=True) as store:
        store.commit(state(1))
        with faults.record() as recorded:
            store.commit(state(2), branch="trial")
    unmade = 0
    for nth in range(1, len(recorded.operations) + 1):
        process = start(workers.commit_until_death, path, 10 + nth, nth, acks)
        process.join(300)
        with castore.open(path) as store:
            report = store.check_audit()
            assert report.ok, report.errors
            unmade += len(report.notes)
    assert unmade > 0


def test_processes_that_commit_at_once_make_one_chain(tmp_path: Path) -> None:
    path, acks = tmp_path / ".castore", tmp_path / "acknowledged"
    castore.open(path, create=True).close()
    finish([start(workers.commit_many, path, f"b{number}", range(5), acks) for number in range(3)])
    with castore.open(path) as store:
        report = store.check_audit()
        assert (report.ok, report.entries, report.notes) == (True, 16, ())


def test_a_ref_that_was_changed_by_hand_is_found(store: Store) -> None:
    first = store.commit(state(1))
    second = store.commit(state(2))
    third = store.commit(state(3))
    ref = store.path / "refs/heads/main"
    ref.write_text(f"{first.id}\n")
    (error,) = store.check_audit().errors
    assert error.startswith(f"refs/heads/main is at {first.id}, but by entry 4, its last one, it went to {third.id}")
    ref.write_text(f"{second.id}\n")
    (note,) = store.check_audit().notes
    assert "undone by hand" in note
    ref.write_text(f"{third.id}\n")
    (store.path / "refs/tags/v1").write_text(f"{first.id}\n")
    assert store.check_audit().errors == (f"refs/tags/v1 is at {first.id}, and no entry made it",)


def test_a_store_without_a_log_gets_one_with_its_next_change(store: Store) -> None:
    store.commit(state(1))
    store.tag("v1")
    (store.path / "audit").unlink()
    assert not store.check_audit().ok
    store.commit(state(2))
    assert [entry.event.action for entry in store.audit()[::-1]] == ["begin", "found", "found", "commit"]
    assert store.check_audit().ok


def test_a_store_may_do_without(store: Store) -> None:
    toml = store.path / "castore.toml"
    toml.write_text(toml.read_text() + "\n[audit]\nenabled = false\n")
    with castore.open(store.path) as other:
        other.commit(state(1))
        other.gc()
        assert told(other) == []
        assert not other.check_audit().ok


def test_gc_and_fsck_leave_the_log_alone(store: Store) -> None:
    store.commit(state(1))
    before = (store.path / "audit").read_bytes()
    store.gc()
    assert store.fsck(repair=True).ok
    assert (store.path / "audit").read_bytes().startswith(before)


def test_a_checkout_from_a_store_whose_disk_is_full_works_and_says_that_it_is_not_in_the_log(
    store: Store, tmp_path: Path
) -> None:
    notes: list[str] = []

    class Listening(castore.progress.Silent):
        def note(self, text: str) -> None:
            notes.append(text)

    store.commit(state(1))
    with castore.open(store.path, progress=Listening()) as other, faults.inject("append"):
        other.checkout("main", tmp_path / "out.pt")
    assert (tmp_path / "out.pt").exists()
    assert ["the audit log does not have this checkout" in note for note in notes] == [True]
