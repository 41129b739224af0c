"""What produced a commit is stored once for a run, found when damaged, and kept for as long as the commit."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import castore
from castore import limits
from castore.chunks import pack
from castore.errors import CorruptError
from castore.objects import codec
from castore.objects.provenance import Provenance, decode, encode
from castore.state.provenance.differences import of_summary
from castore.store import Store
from tests.chunks import fixture_v1
from tests.samples import assert_loads, assert_sound, flip, state


def objects(store: Store) -> list[bytes]:
    """The ids of what says what produced commits."""
    items = store.repository.chunks.access.use(lambda index: list(index.items()))
    return [record_id for record_id, place in items if place.kind == pack.PROVENANCE]


def damage(store: Store, record_id: bytes) -> None:
    """Flip a bit of a record's payload."""
    place = store.repository.chunks.places([record_id])[0]
    flip(store.path / "packs" / place.pack.hex()[:2] / f"{place.pack.hex()}.pack", place.offset + 3)


def test_the_commits_of_a_run_share_one(store: Store) -> None:
    run = castore.Run(config={"lr": 0.1}, data="v1")
    for step in range(200):
        store.commit({"x": step}, step=step, run=run)
    assert len(objects(store)) == 1
    assert store.provenance("main~199").sections["config"] == {"lr": "0.1"}
    assert {commit.provenance for commit in store.log()} == {objects(store)[0].hex()}


def test_commits_for_which_no_run_is_named_share_one_too(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("a")
    for _ in range(3):
        store.commit({"x": 1})
        store.commit_files([file])
    assert len(objects(store)) == 1
    made = store.provenance()
    assert made.get("python", "version") == store.show().environment["python"]


def test_another_configuration_is_another_one_and_differs_by_name(store: Store) -> None:
    for lr in (0.1, 0.2):
        store.commit({}, run=castore.Run(config={"lr": lr, "width": 8}, notes="n", code_directory=store.path))
    assert len(objects(store)) == 2
    (found,) = store.diff_provenance("main~1", "main")
    assert (found.section, found.name, found.old, found.new, found.matters) == ("config", "lr", "0.1", "0.2", True)
    assert store.diff_provenance("main", "main") == []


def test_gc_and_prune_keep_what_produced_a_commit(store: Store) -> None:
    history = {}
    for seed in range(4):
        run = castore.Run(config={"seed": seed}, code_directory=store.path)
        history[store.commit(state(seed), step=seed, run=run).id] = seed
    store.commit({"gone": 1}, branch="other", run=castore.Run(config={"seed": "gone"}, code_directory=store.path))
    store.delete_branch("other", force=True)
    store.prune({"keep_last": 1})
    store.gc()
    assert len(objects(store)) == 4
    for commit_id, seed in history.items():
        assert store.provenance(commit_id).get("config", "seed") == str(seed)
    assert_loads(store, {next(reversed(history)): 3})
    assert_sound(store)
    store.repository.chunks.access.rebuild()
    assert store.provenance("main~3").get("config", "seed") == "0"


def test_fsck_finds_a_damaged_one_and_names_the_commits_it_affects(store: Store) -> None:
    runs = [castore.Run(config={"n": number}, code_directory=store.path) for number in range(2)]
    made = [store.commit(state(seed), run=runs[seed % 2]).id for seed in range(4)]
    store.prune({"keep_last": 1})
    damage(store, bytes.fromhex(str(store.show(made[0]).provenance)))
    with castore.open(store.path) as again:
        with pytest.raises(CorruptError):
            again.provenance(made[0])
        (error,) = again.fsck().errors
        assert set(error.commits) == {made[0], made[2]} and error.paths == ()
        assert again.provenance(made[1]).get("config", "n") == "1"
        assert_loads(again, {made[3]: 3})  # the state of a commit does not depend on it
        assert not again.fsck(read_data=True, repair=True).ok
        again.gc()
        assert [one.commits for one in again.fsck().errors] == [error.commits]
        again.commit({}, branch="anew", run=runs[0])  # the very same, written again
        assert_sound(again)
        assert again.provenance(made[0]).get("config", "n") == "0"


def test_a_commit_of_an_older_version_tells_what_it_holds(tmp_path: Path) -> None:
    root = fixture_v1.copy_of_the_store(tmp_path / ".castore")
    with castore.open(root) as store:
        old = store.show("HEAD")
        assert old.provenance is None
        assert store.provenance("HEAD") == of_summary(old.environment, old.meta)
        assert '"provenance"' not in (root / "castore.toml").read_text()
        new = store.commit({"x": 1}, branch="new")
        assert '"provenance"' in (root / "castore.toml").read_text()  # before it, an older castore can't open the store
        assert store.diff_provenance(old.id, new.id)
        assert codec.encode(dataclasses.replace(old, id="")) == store.repository.chunks.object(
            bytes.fromhex(old.id), pack.COMMIT
        )


def test_the_few_words_of_an_older_commit_have_their_places() -> None:
    found = of_summary({"python": "3.11.2", "git": "abc", "torch": "2.4.0"}, {"torch.threads": "4", "run": "a"})
    assert found.sections == {
        "python": {"version": "3.11.2"},
        "code": {"commit": "abc"},
        "torch": {"version": "2.4.0"},
        "numerics": {"threads": "4"},
    }


TEXTS = st.dictionaries(st.text(min_size=1), st.text(), min_size=1, max_size=4)


@given(st.dictionaries(st.text(), TEXTS, max_size=4))
@settings(max_examples=200)
def test_it_is_read_as_it_was_written(sections: dict[str, dict[str, str]]) -> None:
    found = decode(encode(Provenance(sections)), "it")
    assert found.sections == sections
    assert encode(found) == encode(Provenance(dict(reversed(sections.items()))))


@pytest.mark.parametrize(
    "value",
    [5, [], {"a": 1}, {"a": {"b": 1}}, {"a": {1: "b"}}, {1: {}}, {"a": {"b": b"c"}}, {"a": [["b", "c"]]}],
    ids=repr,
)
def test_what_is_no_sections_of_texts_is_refused(value: object) -> None:
    with pytest.raises(CorruptError, match=r"malformed|cannot be read"):
        decode(cbor2.dumps(value), "it")


def test_one_that_is_too_large_is_refused_before_it_is_read() -> None:
    with pytest.raises(CorruptError, match="larger"):
        decode(bytes(limits.MAX_PROVENANCE_BYTES + 1), "it")
