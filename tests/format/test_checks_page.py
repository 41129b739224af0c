"""The checks of small files: those of the page for castore, and those that castore writes by the page alone."""

from __future__ import annotations

from pathlib import Path

import xxhash

import castore
from castore.history.pins import Pins
from tests.samples import state

PAGE = (Path(__file__).parents[2] / "docs" / "format.md").read_text("utf-8")


def test_the_check_of_the_page_is_right_for_both_readers(tmp_path: Path) -> None:
    data = PAGE.partition("<!-- vector: check -->\n```\n")[2].partition("```")[0].encode()
    (tmp_path / "pins").write_bytes(data)
    assert [pin.reason for pin in Pins(tmp_path, 32).read().values()] == ["of use"]
    assert lines_of(data)


def lines_of(data: bytes) -> bytes:
    """What follows a check. Fails for a wrong one."""
    first, _, rest = data.partition(b"\n")
    assert first == b"check " + xxhash.xxh3_64_hexdigest(rest).encode()
    return rest


def test_what_castore_writes_has_checks_as_on_the_page(tmp_path: Path) -> None:
    with castore.open(tmp_path, create=True) as store:
        for seed in range(2):
            store.commit(state(seed))
        store.pin("main~1", "why\tnot")
        store.load("main")
        for name in ("pins", "accessed"):
            assert lines_of((store.path / name).read_bytes()).count(b"\n") == 1
        for line in (store.path / "logs/HEAD").read_bytes().splitlines():
            check, _, rest = line.partition(b" ")
            assert check == xxhash.xxh3_64_hexdigest(rest).encode()
        assert "checks" in store.repository.config.features
