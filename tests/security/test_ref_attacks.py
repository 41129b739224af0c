"""Names of branches and tags, and revisions, that lead elsewhere or steer a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import castore
from castore.errors import CastoreError, RefNameError, RevisionError, UsageError
from castore.store import Store

NAMES = [
    *(
        "../x",
        "a/../../x",
        "/x",
        "x/",
        "a//b",
        ".x",
        "a/.x",
        "x.lock",
        "a.lock/b",
        "x.",
        "..",
        "@",
        "a@{1}",
        "",
        "HEAD",
    ),
    *(
        "-x",
        "--upload-pack=x",
        "a b",
        "a~1",
        "a^",
        "a:b",
        "a?",
        "a*",
        "a[b",
        "a\\b",
        "x" * 256,
        "x/" + "y" * 201,
        "0f" * 16,
    ),
    *("a\0b", "a\nb", "a\x1b[31mb", "a\x7fb", "a\x9bb", "a\u202eb", "a\u200bb", "a\u2028b", "a\u00a0b", "a\ud800b"),
    *("con", "a/NUL", "aux.txt", "com1", "LPT\u00b3"),
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with castore.open(tmp_path_factory.mktemp("refs"), create=True) as opened:
        opened.commit({"x": 1})
        yield opened


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_name_that_leads_elsewhere_is_refused(store: Store, name: str) -> None:
    before = {
        path: path.read_bytes() for path in store.path.parent.rglob("*") if path.is_file() and "index" not in path.parts
    }
    for work in (
        lambda: store.branch(name),
        lambda: store.tag(name),
        lambda: store.commit({"x": 2}, branch=name),
        lambda: store.switch(name),
        lambda: store.delete_branch(name, force=True),
        lambda: store.delete_tag(name),
    ):
        with pytest.raises((RefNameError, RevisionError)):
            work()
    with pytest.raises(CastoreError):
        store.reflog(f"refs/heads/{name}")
    after = {
        path: path.read_bytes() for path in store.path.parent.rglob("*") if path.is_file() and "index" not in path.parts
    }
    assert {path for path in after if after[path] != before.get(path)} <= {store.path / "events"}


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_revision_reads_nothing_beyond_the_refs(store: Store, name: str) -> None:
    for rev in (name, f"refs/heads/{name}", f"{name}~1", f"refs/../{name}"):
        try:
            found = store.resolve(rev)
        except (RevisionError, RefNameError, UsageError):
            continue
        assert found == store.resolve("HEAD")  # `@`, `HEAD`


@pytest.mark.parametrize(
    ("one", "other"), [("Main", "main"), ("stra\u00dfe", "STRASSE"), ("\u00e9", "e\u0301"), ("a", "a/b")]
)
def test_names_that_are_one_file_elsewhere_exclude_each_other(tmp_path: Path, one: str, other: str) -> None:
    with castore.open(tmp_path, create=True) as store:
        store.commit({"x": 1}, branch=one)
        with pytest.raises(CastoreError):
            store.branch(other, one)


def test_a_ref_whose_name_steers_a_terminal_is_no_ref(tmp_path: Path) -> None:
    with castore.open(tmp_path, create=True) as store:
        commit = store.commit({"x": 1})
        for name in ("a\x1b[2J", "b\x9b2J", "c\u202ex", "-d"):
            (store.path / "refs/heads" / name).write_text(f"{commit.id}\n")
            (store.path / "refs/tags" / name).write_text(f"{commit.id}\n")
        assert list(store.branches()) == ["main"] and store.tags() == {}
