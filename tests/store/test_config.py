"""castore.toml: what a store says of itself, and what is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

import castore
from castore import _fs
from castore.errors import (
    CastoreError,
    CorruptError,
    StorageError,
    StoreExistsError,
    StoreNotFoundError,
    UnsupportedStoreError,
)
from tests.samples import assert_loads, assert_sound, packs, state

GOOD = 'format_version = 1\nuuid = "u"\nhash = "xxh3-128"\n'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    castore.open(tmp_path, create=True).close()
    return tmp_path / ".castore"


def refusal(path: Path, text: str | bytes) -> CastoreError:
    """What opening a store says whose castore.toml is `text`."""
    (path / "castore.toml").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(CastoreError) as caught:
        castore.open(path)
    assert "\n" not in str(caught.value)
    return caught.value


def test_a_newer_format_is_refused_by_its_number(path: Path) -> None:
    error = refusal(path, GOOD.replace("= 1", "= 2"))
    assert isinstance(error, UnsupportedStoreError)
    assert "store format 2" in str(error)


def test_an_unknown_required_feature_is_refused_by_its_name(path: Path) -> None:
    error = refusal(path, GOOD + 'required_features = ["time-travel"]\n')
    assert isinstance(error, UnsupportedStoreError)
    assert "'time-travel'" in str(error)


def test_an_unknown_hash_is_refused_by_its_name(path: Path) -> None:
    error = refusal(path, GOOD.replace("xxh3-128", "md5"))
    assert isinstance(error, UnsupportedStoreError)
    assert "'md5'" in str(error)


@pytest.mark.parametrize(
    "text",
    [
        *("", "garbage", "format_version = ", "\0", b"\xff\xfe", 'format_version = "1"', "format_version = true"),
        *("format_version = 0", "format_version = -1", "format_version = 1.0", 'uuid = "u"', "a = " + "[" * 100_000),
        *(GOOD + "chunk_elements = 0", GOOD + "chunk_elements = 10000000000", GOOD + 'chunk_elements = "x"'),
        *(GOOD + "required_features = 5", GOOD + 'required_features = "time-travel"', GOOD + "delta = 5"),
        *(GOOD + "[delta]\nmax_depth = -1", GOOD + "[delta]\nmax_depth = 1000", GOOD + "[gc]\nreflog_expire_days = -1"),
        *(GOOD + "[gc]\nreflog_expire_days = 1.5", GOOD.replace('"u"', "5"), GOOD + "x" * (1 << 20), GOOD + GOOD),
    ],
    ids=lambda text: repr(text[:60]),
)
def test_garbage_and_wrong_types_are_damage(path: Path, text: str | bytes) -> None:
    assert isinstance(refusal(path, text), CorruptError)


def test_settings_that_are_missing_have_defaults_and_unknown_ones_are_left_alone(path: Path) -> None:
    (path / "castore.toml").write_text("format_version = 1\n[remote]\nurl = 'x'\n")
    with castore.open(path) as store:
        assert_loads(store, {store.commit(state(1)).id: 1})


def test_a_blake3_store_has_longer_ids_and_works_alike(tmp_path: Path) -> None:
    with castore.store.init(tmp_path, hash="blake3") as store:
        history = {store.commit(state(seed)).id: seed for seed in range(3)}
        assert all(len(commit) == 64 for commit in history)
        assert all(len(path.stem) == 64 for path in packs(store))
        store.commit(state(7), branch="doomed")
        store.delete_branch("doomed", force=True)
        assert store.gc().removed_chunks > 0
        assert store.resolve(next(iter(history))[:9]) == next(iter(history))
        (store.path / "index" / "data.mdb").unlink()
    with castore.open(tmp_path) as store:
        assert_loads(store, history)
        assert_sound(store)


def test_a_path_is_a_store_or_holds_one_or_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x")
    for place in (tmp_path, file, tmp_path / "nothing"):
        with pytest.raises(StoreNotFoundError):
            castore.open(place)
    castore.store.init(tmp_path / "runs").close()
    for place in (tmp_path / "runs", tmp_path / "runs" / ".castore"):
        with castore.open(place) as store:
            assert store.path == tmp_path / "runs" / ".castore"
        with pytest.raises(StoreExistsError):
            castore.store.init(place)
        castore.open(place, create=True).close()
    (tmp_path / "runs" / "deep" / "er").mkdir(parents=True)
    assert castore.store.discover(tmp_path / "runs" / "deep" / "er") == tmp_path / "runs" / ".castore"
    with pytest.raises(StoreNotFoundError):
        castore.store.discover(tmp_path)
    with pytest.raises(StorageError):
        castore.open(file, create=True)


def test_a_store_is_private_to_its_owner(path: Path) -> None:
    with castore.open(path) as store:
        store.commit(state(1))
    for entry in [path, *path.rglob("*")]:
        assert entry.stat().st_mode & 0o077 == 0, entry


def test_a_store_stays_where_it_is_when_the_process_goes_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with castore.open("runs", create=True) as store:
        history = {store.commit(state(1)).id: 1}
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        history[store.commit(state(2)).id] = 2
        assert_loads(store, history)


def test_a_store_on_a_network_file_system_is_refused(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
        f"44 22 0:40 / {path.parent} rw,relatime shared:2 - nfs4 server:/export rw\n"
    )
    monkeypatch.setattr(_fs, "MOUNTS", mounts)
    with pytest.raises(UnsupportedStoreError, match="nfs4"):
        castore.open(path)
    with pytest.raises(UnsupportedStoreError, match="nfs4"):
        castore.store.init(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_store_of_before_comes_to_name_what_its_new_packs_need(path: Path) -> None:
    """An older castore then refuses it by name, rather than pass over packs that it can't read."""
    config = path / "castore.toml"
    old = config.read_text().replace('"packs-2",', "").replace("max_span = 12", "max_span = 7")
    config.write_text(old)
    with castore.open(path) as store:
        assert store.stats().commits == 0
        assert config.read_text() == old  # reading changes nothing
        store.commit(state(1))
        assert '"packs-2"' in config.read_text() and "max_span = 7" in config.read_text()
        store.commit(state(2))
        assert_sound(store)
