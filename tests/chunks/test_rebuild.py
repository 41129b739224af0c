"""What the index takes from packs: every record that can be decoded, and never a circle, whatever copies lie around."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from castore import limits
from castore.chunks import hashing, pack
from castore.chunks.closure import depths
from castore.chunks.hashing import checksum
from castore.chunks.index import Index
from castore.chunks.reader import PackFiles
from castore.chunks.rebuild import add_packs
from castore.chunks.writer import PackWriter, move_in, pack_path
from castore.progress import Silent

HASH = hashing.by_name("xxh3-128")
Links = list[list[tuple[int, tuple[int, ...]]]]  # packs of (record, bases)


def record_id(number: int) -> bytes:
    return HASH.digest(bytes([number]))


def write_packs(root: Path, packs: Links) -> PackFiles:
    for name in ("incoming", "packs", "index"):
        (root / name).mkdir()
    for number, records in enumerate(packs):
        writer = PackWriter(root / "incoming", HASH)
        payload = bytes([number])  # so that packs of the same records differ
        for one, bases in records:
            links = tuple(map(record_id, bases))
            writer.append(pack.Entry(record_id(one), links, 0, 1, 1, checksum(payload), pack.CHUNK, 0, 0), payload)
        move_in(writer.seal(), root / "packs")
        writer.close()
    return PackFiles(root / "packs", HASH)


def decodable(packs: Links) -> set[int]:
    """Records with a copy all of whose bases are decodable: none, for one that stands alone."""
    found: set[int] = set()
    grew = True
    while grew:
        # One pack cannot hold two copies of a record: the later takes the place of the earlier.
        new = {one for records in packs for one, bases in dict(records).items() if found.issuperset(bases)}
        grew = not new <= found
        found |= new
    return found


links = st.lists(
    st.lists(
        st.tuples(st.integers(0, 6), st.lists(st.integers(0, 6), max_size=limits.MAX_BASES).map(tuple)),
        min_size=1,
        max_size=5,
    ),
    min_size=1,
    max_size=5,
)


@given(links)
@settings(max_examples=60)
def test_a_rebuild_takes_all_that_can_be_decoded_and_no_circle(packs: Links) -> None:
    with tempfile.TemporaryDirectory() as directory:
        files = write_packs(Path(directory), packs)
        index = Index(Path(directory) / "index", HASH.size)
        assert add_packs(index, files, files.ids(), Silent()) == []
        places = dict(index.items())
        index.close()
    assert set(places) == {record_id(one) for one in decodable(packs)}
    assert set(depths(places)) == set(places)  # raises KeyError for a base that is not there, CorruptError for a circle


def test_a_circle_that_two_copies_close_is_left_open(tmp_path: Path) -> None:
    files = write_packs(tmp_path, [[(1, (2,))], [(2, (4, 1))], [(3, (3,))], [(2, ()), (4, ())]])
    index = Index(tmp_path / "index", HASH.size)
    add_packs(index, files, files.ids(), Silent())
    places = dict(index.items())
    assert set(places) == {record_id(1), record_id(2), record_id(4)}
    assert places[record_id(1)].bases == (record_id(2),)
    assert places[record_id(2)].bases == ()
    index.close()


def test_a_record_waits_for_the_last_of_its_bases(tmp_path: Path) -> None:
    """Whichever pack each of them lies in, before or after it."""
    packs: Links = [[(5, (1, 2, 3, 4)), (1, ())], [(2, (1,))], [(4, (3,)), (6, (5, 9))], [(3, ())]]
    for number, order in enumerate(itertools.permutations(packs)):
        (tmp_path / str(number)).mkdir()
        files = write_packs(tmp_path / str(number), list(order))
        index = Index(tmp_path / str(number) / "index", HASH.size)
        ids = sorted(
            files.ids(), key=lambda one: files.read(one, files.footer(one)[0].offset, 1)
        )  # as they were written
        add_packs(index, files, ids, Silent())
        assert {one for one, _ in index.items()} == {record_id(one) for one in (1, 2, 3, 4, 5)}
        index.close()


def test_a_damaged_pack_is_named_and_the_others_are_taken(tmp_path: Path) -> None:
    files = write_packs(tmp_path, [[(1, ())], [(2, ())]])
    damaged = next(files.ids())
    with pack_path(tmp_path / "packs", damaged).open("r+b") as file:
        file.truncate(30)
    index = Index(tmp_path / "index", HASH.size)
    (line,) = add_packs(index, files, files.ids(), Silent())
    assert damaged.hex() in line
    assert index.count() == 1
    index.close()


def test_foreign_files_in_packs_are_ignored(tmp_path: Path) -> None:
    files = write_packs(tmp_path, [[(1, ())]])
    for name in ("README", "zz.pack", "ab/cd.pack", f"00/{'11' * 16}.pack", "3f/notes.txt"):
        (tmp_path / "packs" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "packs" / name).write_bytes(b"mine")
    assert len(list(files.ids())) == 1
