"""Salvage: whatever befell a store, all of which the bytes are left comes out as it was, and the rest is named."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import castore
from castore import config
from castore.chunks import pack
from castore.errors import StoreExistsError, StoreNotFoundError, UsageError
from castore.maintenance.reports import SalvageReport
from castore.objects import nodes
from castore.operations.load import load_here
from castore.store import salvage
from castore.testing.states import equal_states
from tests.damage.everything import Everything, everything
from tests.samples import packs, state
from tests.tiered import tiered


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Everything]:
    yield everything(tmp_path_factory.mktemp("everything") / "store")


def contents(root: Path) -> dict[str, tuple[bytes, int]]:
    """All files below a directory, with when they were last written to."""
    return {
        str(path.relative_to(root)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in root.rglob("*")
        if path.is_file()
    }


def surviving(whole: Everything, damaged: Path) -> set[bytes]:
    """The records of which every byte is left that it takes to read them, in any file of a damaged copy."""
    found: set[bytes] = set()
    with castore.open(whole.root) as store:
        chunks = store.repository.chunks
        for path in packs(store):
            there = damaged / path.relative_to(whole.path)
            before, after = path.read_bytes(), there.read_bytes() if there.exists() else b""
            entries = chunks.files.footer(bytes.fromhex(path.stem))
            end = max(entry.offset + entry.length for entry in entries)
            has_footer = after[end:] == before[end:] and after[:16] == before[:16]
            fmt = chunks.files.format_of(bytes.fromhex(path.stem))
            for entry in entries:
                begin = entry.offset - (0 if has_footer else fmt.record_header_bytes(len(entry.bases)))
                if after[begin : entry.offset + entry.length] == before[begin : entry.offset + entry.length]:
                    found.add(entry.id)
        while lacking := {
            one for one in found if (place := chunks.access.index.get(one)) and not found.issuperset(place.bases)
        }:
            found -= lacking
    return found


def check_salvaged(whole: Everything, damaged: Path, new: Path, report: SalvageReport) -> None:
    """That all is there which can be, bit for bit, and that the report says what is not."""
    left = surviving(whole, damaged)
    told = {one.commit: one for one in report.commits}
    with castore.open(whole.root) as before, castore.open(new) as after:
        assert after.fsck().ok and report.sound
        old, repo = before.repository, after.repository
        kept = {one for one in whole.states if bytes.fromhex(one) in left}
        assert kept <= told.keys()
        for commit in kept:
            reader = old.tree_reader()
            root = reader.read(bytes.fromhex(old.commit(commit).tree))
            if not left.issuperset(one for one, _ in reader.object_ids):
                assert told[commit].tree_lost
                continue
            gone = _lost(root, left, old.hash.size) & set(whole.paths[commit])
            if (damaged / "dropped").exists() and old.drops.get(commit) is None:
                assert set(told[commit].lost) & set(whole.paths[commit]) == gone  # `paths` leaves one out, see there
            paths = [one for one in whole.paths[commit] if one not in gone]
            if paths and (gone or told[commit].state == "present"):
                assert equal_states(load_here(repo, commit, paths, None), load_here(old, commit, paths, None))


def _lost(root: nodes.Node, left: set[bytes], size: int) -> set[str]:
    return {
        ".".join(path)
        for path, entry in nodes.tensors(root)
        if not left.issuperset(entry.chunks[at : at + size] for at in range(0, len(entry.chunks), size))
    }


FATES = st.sampled_from(["flip", "cut", "zero", "delete", "garbage", "tail"])


@settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_all_that_is_left_of_a_store_comes_out(whole: Everything, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as directory:
        damaged, new = Path(directory) / "old" / ".castore", Path(directory) / "new"
        shutil.copytree(whole.path, damaged)
        files = data.draw(st.lists(st.sampled_from(whole.files()), min_size=1, max_size=12, unique=True))
        for name in files:
            _befall(damaged / name, data)
        before = contents(damaged)
        report = salvage(damaged.parent, new)
        assert contents(damaged) == before
        check_salvaged(whole, damaged, new, report)


def _befall(path: Path, data: st.DataObject) -> None:
    content = bytearray(path.read_bytes())
    fate = data.draw(FATES)
    at = data.draw(st.integers(0, len(content) - 1))
    if fate == "flip":
        content[at] ^= 1 << data.draw(st.integers(0, 7))
    elif fate == "cut":
        del content[at:]
    elif fate == "zero":
        content[at : at + 512] = bytes(len(content[at : at + 512]))
    elif fate == "tail":  # footer and trailer
        content[-60:] = bytes(len(content[-60:]))
    elif fate == "garbage":
        content[at:] = bytes(data.draw(st.binary(min_size=10, max_size=10))) * 3
    path.unlink() if fate == "delete" else path.write_bytes(content)


@pytest.mark.parametrize("left", [0, 8, 10, 15, 16, 17])
def test_a_pack_that_was_cut_within_its_header_is_no_hindrance(whole: Everything, tmp_path: Path, left: int) -> None:
    damaged = tmp_path / "old" / ".castore"
    shutil.copytree(whole.path, damaged)
    (name, *_) = [one for one in whole.files() if one.endswith(".pack")]
    (damaged / name).write_bytes((damaged / name).read_bytes()[:left])
    check_salvaged(whole, damaged, tmp_path / "new", salvage(damaged.parent, tmp_path / "new"))


def test_a_whole_store_comes_out_whole(whole: Everything, tmp_path: Path) -> None:
    report = salvage(whole.root, tmp_path / "new")
    gone = report.branches.pop("salvaged/1")  # of a branch that was deleted: gc has not taken it yet
    assert report.whole and not report.branches and not report.moved_refs and gone not in whole.states
    with castore.open(whole.root) as before, castore.open(tmp_path / "new") as after:
        assert after.branches() == {**before.branches(), "salvaged/1": gone} and after.tags() == before.tags()
        assert (after.head(), after.pins(), after.drops()) == (before.head(), before.pins(), before.drops())
        assert after.repository.config.uuid == before.repository.config.uuid
        assert after.fsck().ok and after.check_audit().ok
        for commit, kept in whole.states.items():
            assert equal_states(load_here(after.repository, commit, whole.paths[commit], None), kept)
        after.commit(state(1), branch="team/run")
        after.gc()
        assert after.fsck().ok


def test_packs_alone_give_all_states_and_branches_for_them(whole: Everything, tmp_path: Path) -> None:
    """No footer, no name, no setting; nor is a pack called what it was."""
    old = tmp_path / "lost+found"
    old.mkdir()
    with castore.open(whole.root) as store:
        for number, path in enumerate(packs(store)):
            (old / f"#{number}").write_bytes(path.read_bytes()[:-40])
    report = salvage(old, tmp_path / "new")
    assert report.sound and not report.refs and set(report.branches) == {f"salvaged/{n}" for n in (1, 2, 3, 4, 5)}
    with castore.open(tmp_path / "new") as store:
        for commit, kept in whole.states.items():
            assert equal_states(load_here(store.repository, commit, whole.paths[commit], None), kept)
        assert store.head().commit is not None


def test_refs_that_are_gone_are_found_in_logs(tmp_path: Path) -> None:
    with castore.open(tmp_path / "old", create=True) as store:
        first, second = (store.commit(state(seed)).id for seed in (1, 2))
        store.tag("v1", first)
    old = tmp_path / "old" / ".castore"
    for name in ("refs", "index"):
        shutil.rmtree(old / name)
    (old / "HEAD").write_text("nonsense")
    report = salvage(tmp_path / "old", tmp_path / "new")
    assert report.refs == {"refs/heads/main": second, "refs/tags/v1": first}
    assert report.moved_refs["refs/heads/main"] == "the audit log" and not report.branches
    shutil.rmtree(tmp_path / "new")
    (old / "audit").unlink()
    report = salvage(tmp_path / "old", tmp_path / "new")
    assert report.refs == {"refs/heads/main": second} and report.moved_refs == {"refs/heads/main": "its reflog"}


def test_a_lost_commit_ends_history_and_what_came_after_stays(tmp_path: Path) -> None:
    with castore.open(tmp_path / "old", create=True) as store:
        first, second, third = (store.commit({"w": torch.arange(50) * seed}).id for seed in (1, 2, 3))
        paths = packs(store)
    damage(paths[1], pack.COMMIT)
    report = salvage(tmp_path / "old", tmp_path / "new")
    assert report.lost_commits == (second,) and not report.whole and report.sound
    assert report.refs == {"refs/heads/main": third} and list(report.branches.values()) == [first]
    with castore.open(tmp_path / "new") as new:
        assert [commit.id for commit in new.log("main")] == [third]
        assert torch.equal(new.load("main")["w"], torch.arange(50) * 3)
        assert torch.equal(new.load("salvaged/1")["w"], torch.arange(50))
        fourth = new.commit({"w": torch.arange(7)})
        new.gc()
        assert fourth.parents == (third,) and new.fsck().ok
    again = salvage(tmp_path / "new", tmp_path / "newer")
    assert again.whole and again.refs["refs/heads/main"] == fourth.id


def test_lost_provenance_costs_nothing_else(tmp_path: Path) -> None:
    with castore.open(tmp_path / "old", create=True) as store:
        made = store.commit(state(1))
        damage(packs(store)[0], pack.PROVENANCE)
    report = salvage(tmp_path / "old", tmp_path / "new")
    assert report.sound and not report.whole and report.lost_provenance == (made.id,)
    with castore.open(tmp_path / "new") as new:
        assert new.show("main").id == made.id and new.show("main").provenance is None
        assert equal_states(new.load("main"), state(1))


def test_what_a_copy_has_is_taken_from_it(tmp_path: Path) -> None:
    (tmp_path / "disk2").mkdir()
    with tiered(tmp_path / "old", f"[tiers.archive]\ndirectory = '{tmp_path}/disk2/copies'\n") as store:
        first, second = (store.commit(state(seed), tier="archive").id for seed in (1, 2))
        store.mirror()
        third = store.commit({"w": torch.arange(30)}).id
        one, two, _ = packs(store)
        uuid = store.repository.config.uuid
    two.unlink()
    one.write_bytes(one.read_bytes()[:300])
    for name in ("castore.toml", "HEAD", "audit"):
        (tmp_path / "old" / ".castore" / name).unlink()
    report = salvage(tmp_path / "old", tmp_path / "new", [tmp_path / "disk2" / "copies"])
    assert report.whole and report.refs["refs/heads/main"] == third
    with castore.open(tmp_path / "new") as new:
        assert new.repository.config.uuid == uuid  # of copies that know it
        for commit, seed in ((first, 1), (second, 2)):
            assert equal_states(new.load(commit), state(seed))


def test_lost_tensors_count_as_dropped_and_the_rest_loads(tmp_path: Path) -> None:
    shared = torch.arange(300)
    content = {"a": torch.arange(200) * 2, "a.b": torch.arange(100) * 3, "tied": [shared, shared[5:]], "s*": shared * 7}
    with castore.open(tmp_path / "old", create=True) as store:
        commit = store.commit(content).id
        repo = store.repository
        root = repo.tree(repo.commit(commit))
        path = packs(store)[0]
        data = bytearray(path.read_bytes())
        for name, entry in nodes.tensors(root):
            if name in (("a",), ("tied", "0"), ("s*",)):
                (place,) = repo.chunks.places([entry.chunks])
                data[place.offset] ^= 1
        path.write_bytes(data)
    report = salvage(tmp_path / "old", tmp_path / "new")
    (told,) = report.commits
    assert told.lost == ("a", "tied.0", "s*") and told.state == "partial"
    with castore.open(tmp_path / "new") as new:
        with pytest.raises(castore.DroppedError, match="salvage"):
            new.load("main")
        assert torch.equal(load_here(new.repository, commit, ["a.b"], None)["a.b"], content["a.b"])
        assert new.fsck().ok


def test_of_a_commit_of_files_whole_files_are_lost(tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    for name in ("one.pt", "two.pt"):
        torch.save({"w": torch.randn(5000), "b": torch.zeros(9)}, files / name)
    with castore.open(tmp_path / "old", create=True) as store:
        store.commit_files([files])
        repo = store.repository
        root = repo.tree(repo.commit(store.resolve("main")))
        chunks = next(entry.chunks for path, entry in nodes.tensors(root) if "one.pt" in path and path[-1] == "w")
        (place,) = repo.chunks.places([chunks])
        path = packs(store)[0]
        data = bytearray(path.read_bytes())
        data[place.offset] ^= 1
        path.write_bytes(data)
    report = salvage(tmp_path / "old", tmp_path / "new")
    assert [one.state for one in report.commits] == ["partial"]
    with castore.open(tmp_path / "new") as new:
        new.checkout("main", tmp_path / "out", only="*two.pt")
        (found,) = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
        assert found.read_bytes() == (files / "two.pt").read_bytes()
        assert new.fsck().ok


def test_the_new_store_lies_elsewhere_and_is_new(tmp_path: Path) -> None:
    castore.open(tmp_path / "old", create=True).close()
    with pytest.raises(UsageError, match="would lie in"):
        salvage(tmp_path / "old" / ".castore", tmp_path / "old")
    with pytest.raises(StoreNotFoundError):
        salvage(tmp_path / "nowhere", tmp_path / "new")
    castore.open(tmp_path / "there", create=True).close()
    with castore.open(tmp_path / "old") as store:
        store.commit(state(1))
    with pytest.raises(StoreExistsError):
        salvage(tmp_path / "old", tmp_path / "there")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no store"):
        salvage(tmp_path / "empty", tmp_path / "new")


def test_a_blake3_store_is_known_by_its_packs(tmp_path: Path) -> None:
    with castore.init(tmp_path / "old", hash="blake3") as store:
        store.commit(state(1))
    (tmp_path / "old" / ".castore" / config.NAME).write_bytes(b"\xff\xff")
    assert salvage(tmp_path / "old", tmp_path / "new").whole
    with castore.open(tmp_path / "new") as new:
        assert new.repository.hash.name == "blake3" and equal_states(new.load("main"), state(1))


def damage(path: Path, kind: int) -> None:
    """Damage the records of a kind in a pack, and its footer."""
    data = bytearray(path.read_bytes())
    with castore.open(path.parents[3]) as store:
        for entry in store.repository.chunks.files.footer(bytes.fromhex(path.stem)):
            if entry.kind == kind:
                data[entry.offset + 3] ^= 1
    data[-30] ^= 1
    path.write_bytes(data)
