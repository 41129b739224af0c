"""Protected branches only go forward and keep their reflogs; protected tags stay where they are."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

import castore
from castore.errors import UsageError
from castore.history.protection import Protection
from castore.store import Store
from tests.samples import state

SETTINGS = '\n[protect]\nbranches = ["main", "release/*"]\ntags = ["v*"]\n'


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Two commits on main, and the first of them also at release/1 and v1."""
    with castore.open(tmp_path, create=True) as made:
        made.commit(state(1))
        made.branch("release/1")
        made.tag("v1")
        made.commit(state(2))
        toml = made.path / "castore.toml"
        toml.write_text(toml.read_text() + SETTINGS)
    with castore.open(tmp_path) as store:
        yield store


def test_a_protected_branch_goes_forward(store: Store) -> None:
    store.commit(state(3))
    store.branch("release/1", "main~1", force=True)
    store.branch("release/1", "main", force=True)
    assert store.resolve("release/1") == store.resolve("main")


def test_a_protected_branch_does_not_go_back(store: Store) -> None:
    store.commit(state(9), branch="side")
    before = store.resolve("main")
    for rev in ("main~1", "side"):
        with pytest.raises(
            UsageError, match=r"branch 'main' is protected by 'main' in \[protect\].* only goes forward"
        ):
            store.branch("main", rev, force=True)
    assert store.resolve("main") == before


def test_a_protected_branch_is_not_deleted(store: Store) -> None:
    with pytest.raises(UsageError, match=r"'release/1' is protected by 'release/\*' .* is not deleted"):
        store.delete_branch("release/1", force=True)
    store.branch("released")
    store.delete_branch("released")


def test_a_protected_tag_stays(store: Store) -> None:
    with pytest.raises(UsageError, match=r"tag 'v1' is protected by 'v\*' .* stays where it is"):
        store.tag("v1", "main", force=True)
    with pytest.raises(UsageError, match=r"'v1' is protected by 'v\*' .* is not deleted"):
        store.delete_tag("v1")
    store.tag("v2")
    store.tag("best")
    store.tag("best", "main~1", force=True)
    store.delete_tag("best")


def test_the_reflog_of_a_protected_branch_is_kept(store: Store) -> None:
    later = datetime.now(timezone.utc) + timedelta(days=1)
    with pytest.raises(UsageError, match=r"'main' is protected by 'main' .* keeps its reflog"):
        store.expire_reflog("main", later)
    store.commit(state(3), branch="side")
    store.expire_reflog(None, later)
    assert [len(store.reflog(ref)) for ref in ("main", "release/1", "side", "HEAD")] == [2, 1, 0, 0]
    toml = store.path / "castore.toml"
    toml.write_text(toml.read_text().replace("reflog_expire_days = 30", "reflog_expire_days = 0"))
    with castore.open(store.path) as other:
        assert other.gc().expired_reflog_entries == 0
        assert other.resolve("main@{1}") == other.resolve("main~1")


def test_gc_keeps_what_the_reflog_of_a_protected_branch_leads_to(tmp_path: Path) -> None:
    with castore.open(tmp_path, create=True) as store:
        first = store.commit(state(1))
        rewound = store.commit(state(2))
        store.branch("main", first.id, force=True)
        toml = store.path / "castore.toml"
        text = toml.read_text().replace("reflog_expire_days = 30", "reflog_expire_days = 0") + SETTINGS
        toml.write_text(text)
    with castore.open(tmp_path) as store:
        store.gc()
        assert store.show("main@{1}").id == rewound.id
        toml.write_text(text.replace('"main", ', ""))
    with castore.open(tmp_path) as store:
        store.gc()
        with pytest.raises(castore.CastoreError):
            store.show(rewound.id)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('branch = ["main"]', "unknown key 'branch'; it takes branches and tags"),
        ('branches = "main"', "branches in .* should be an array of patterns"),
        ("tags = [1]", "tags in .* should be an array of patterns"),
        ('tags = [""]', "tags in .* should be an array of patterns"),
    ],
)
def test_a_table_that_is_wrong_is_named_before_anything_goes(store: Store, line: str, problem: str) -> None:
    toml = store.path / "castore.toml"
    toml.write_text(toml.read_text().replace(SETTINGS, f"\n[protect]\n{line}\n"))
    with castore.open(store.path) as other:
        assert other.load("main")["step"] == 2
        for change in (lambda: other.delete_tag("v1"), lambda: other.delete_branch("release/1"), other.gc):
            with pytest.raises(UsageError, match=rf"castore.toml: .*{problem}"):
                change()
        assert other.tags()


def test_patterns() -> None:
    protection = Protection.from_mapping({"branches": ["main", "rel/*", "v?"]})
    protected = [
        name
        for name in ("main", "Main", "main2", "rel/1", "rel/1/2", "rel", "v1", "v12")
        if protection.has_branch(name)
    ]
    assert protected == ["main", "rel/1", "rel/1/2", "v1"]
