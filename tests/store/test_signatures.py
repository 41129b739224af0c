"""Signatures by real SSH keys: what is good, what is not, and what becomes of them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import castore
from castore.errors import CorruptError, RevisionError, SignatureError, StorageError, UsageError
from castore.history.signatures import Signatures, commit_payload, tag_payload
from castore.store import Store
from castore.testing import faults
from tests.keys import Keys, make_keys
from tests.samples import assert_sound, state


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return make_keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with castore.store.init(tmp_path, hash="blake3") as store:
        store.commit(state(1))
        yield store


def statuses(store: Store, rev: str | None, keys: Keys) -> tuple[bool, list[tuple[str, str]]]:
    report = store.verify_signatures(rev, keys.allowed)
    return report.ok, [(one.kind, one.status) for one in report.checked]


def test_a_good_signature_names_its_signer_and_key(store: Store, keys: Keys) -> None:
    made = store.sign("main", keys.ada)
    report = store.verify_signatures("main", keys.allowed)
    (one,) = report.checked
    assert report.ok
    assert (one.status, one.signer, one.commit) == ("good", "ada@example.org", store.resolve("main"))
    assert one.key == made.key == f"ED25519 key {keys.fingerprint(keys.ada)}"
    assert report.counts == {"good": 1, "unknown-key": 0, "bad": 0, "unsigned": 0}


def test_what_is_not_signed_is_not_good(store: Store, keys: Keys) -> None:
    assert statuses(store, "main", keys) == (False, [("commit", "unsigned")])
    assert statuses(store, None, keys) == (True, [("commit", "unsigned")])


def test_a_signature_by_an_unknown_key_is_named_and_not_good(store: Store, keys: Keys) -> None:
    store.sign("main", keys.grace)
    report = store.verify_signatures("main", keys.allowed)
    assert not report.ok
    assert (report.checked[0].status, report.checked[0].signer) == ("unknown-key", "")
    assert keys.fingerprint(keys.grace) in report.checked[0].key
    assert not store.verify_signatures(None, keys.allowed).ok


def test_a_commit_may_have_several_signers(store: Store, keys: Keys) -> None:
    for key in (keys.grace, keys.ada, keys.ada):
        store.sign("main", key)
    assert statuses(store, "main", keys) == (True, [("commit", "unknown-key"), ("commit", "good")])
    assert statuses(store, None, keys)[0]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('ada@example.org valid-before="20200101" KEY', "key has expired"),
        ('ada@example.org namespaces="git" KEY', "not permitted for use in signature namespace"),
    ],
)
def test_a_key_that_may_not_sign_this_is_an_unknown_one_and_why_is_said(
    store: Store, keys: Keys, line: str, why: str
) -> None:
    store.sign("main", keys.ada)
    (one,) = store.verify_signatures("main", keys.allow(line, keys.ada)).checked
    assert one.status == "unknown-key"
    assert why in one.detail


def test_a_signature_of_another_commit_is_bad(store: Store, keys: Keys) -> None:
    first = store.resolve("main")
    store.sign("main", keys.ada)
    second = store.commit(state(2)).id
    place = store.path / "signatures" / "commits"
    shutil.copy(place / first, place / second)
    assert statuses(store, second, keys) == (False, [("commit", "bad")])
    assert statuses(store, first, keys)[0]
    assert not statuses(store, None, keys)[0]


def test_a_signature_made_for_something_else_is_bad(store: Store, keys: Keys) -> None:
    commit_id = store.resolve("main")
    made = subprocess.run(
        ["ssh-keygen", "-Y", "sign", "-n", "git", "-f", keys.ada], input=commit_payload(commit_id), capture_output=True
    )
    place = store.path / "signatures" / "commits"
    place.mkdir(parents=True)
    (place / commit_id).write_bytes(made.stdout)
    assert statuses(store, "main", keys) == (False, [("commit", "bad")])


@pytest.mark.parametrize("damage", [b"rubbish", b"", b"\n-----BEGIN SSH SIGNATURE-----\n", b"x" * 100_000])
def test_a_damaged_file_of_signatures_is_bad_and_is_not_added_to(store: Store, keys: Keys, damage: bytes) -> None:
    store.sign("main", keys.ada)
    path = store.path / "signatures" / "commits" / store.resolve("main")
    path.write_bytes(path.read_bytes()[:-30] + damage)
    assert statuses(store, "main", keys) == (False, [("commit", "bad")])
    with pytest.raises(CorruptError, match="delete it and sign again"):
        store.sign("main", keys.ada)
    path.unlink()
    store.sign("main", keys.ada)
    assert statuses(store, "main", keys)[0]


def test_there_is_a_bound_to_signatures(store: Store, keys: Keys) -> None:
    signatures = Signatures(store.path, 64)
    block = b"-----BEGIN SSH SIGNATURE-----\n%s\n-----END SSH SIGNATURE-----\n"
    with pytest.raises(UsageError, match="no room for another signature"):
        for number in range(1000):
            signatures.add("ab" * 32, block % (b"A" * 1000 + str(number).encode()))
    assert len(signatures.of_commit("ab" * 32)) > 50


def test_a_signed_tag(store: Store, keys: Keys) -> None:
    commit_id = store.tag("v1/final", "main", sign=keys.ada)
    assert statuses(store, "v1/final", keys) == (True, [("tag", "good"), ("commit", "unsigned")])
    assert statuses(store, "refs/tags/v1/final", keys)[0]
    assert statuses(store, commit_id, keys) == (False, [("commit", "unsigned")])
    assert statuses(store, None, keys) == (True, [("tag", "good"), ("commit", "unsigned")])
    assert store.signed() == ([], ["v1/final"])


def test_a_tag_needs_a_signature_of_its_own(store: Store, keys: Keys) -> None:
    store.sign("main", keys.ada)
    store.tag("v1")
    assert statuses(store, "v1", keys) == (False, [("tag", "unsigned"), ("commit", "good")])


def test_a_tag_that_was_moved_by_hand_has_a_bad_signature(store: Store, keys: Keys) -> None:
    store.tag("v1", sign=keys.ada)
    other = store.commit(state(2)).id
    (store.path / "refs/tags/v1").write_text(f"{other}\n")
    assert statuses(store, "v1", keys)[1][0] == ("tag", "bad")


def test_the_signature_of_one_tag_is_none_of_another(store: Store, keys: Keys) -> None:
    store.tag("v1", sign=keys.ada)
    store.tag("v2")
    shutil.copy(store.path / "signatures/tags/v1", store.path / "signatures/tags/v2")
    assert statuses(store, "v2", keys)[1][0] == ("tag", "bad")


def test_a_tag_that_is_moved_or_deleted_loses_its_signature(store: Store, keys: Keys) -> None:
    store.tag("v1", sign=keys.ada)
    store.commit(state(2))
    store.tag("v1", force=True)
    assert statuses(store, "v1", keys)[1][0] == ("tag", "unsigned")
    store.tag("v1", sign=keys.ada, force=True)
    assert statuses(store, "v1", keys)[0]
    store.delete_tag("v1")
    assert store.signed() == ([], [])
    store.tag("v1")
    assert statuses(store, "v1", keys)[1][0] == ("tag", "unsigned")


def test_a_disk_that_fails_leaves_no_tag_with_a_bad_signature(store: Store, keys: Keys) -> None:
    store.tag("v1", sign=keys.ada)
    seen = set()
    for number in range(2, 40):
        store.commit(state(number))
        with faults.inject(nth=number - 1) as fault:
            try:
                store.tag("v1", sign=keys.ada, force=True)
            except StorageError:
                assert fault.struck
        (found, *_) = store.verify_signatures("v1", keys.allowed).checked
        seen.add(found.status)
        assert found.status in ("good", "unsigned"), number
        assert store.check_audit().ok
        store.tag("v1", sign=keys.ada, force=True)
        if not fault.struck:
            break
    assert seen == {"good", "unsigned"}


def test_gc_forgets_the_signatures_of_what_is_gone_and_keeps_the_others(store: Store, keys: Keys) -> None:
    store.sign("main", keys.ada)
    store.tag("v1", sign=keys.ada)
    store.sign(store.commit(state(2), branch="gone").id, keys.ada)
    store.delete_branch("gone", force=True)
    shutil.copy(store.path / "signatures/tags/v1", store.path / "signatures/tags/unused")
    store.gc()
    assert store.signed() == ([store.resolve("main")], ["v1"])
    assert statuses(store, "v1", keys) == (True, [("tag", "good"), ("commit", "good")])
    assert_sound(store)


def test_a_pruned_commit_keeps_its_signature(store: Store, keys: Keys) -> None:
    first = store.sign("main", keys.ada).commit
    store.commit(state(2))
    store.prune({"keep_last": 1})
    store.gc()
    assert statuses(store, first, keys)[0]


def test_a_commit_is_signed_as_it_is_made(store: Store, keys: Keys) -> None:
    store.commit(state(2), sign=keys.ada)
    assert statuses(store, "main", keys)[0]


def test_a_commit_that_could_not_be_signed_is_made_and_said_to_be(store: Store, keys: Keys) -> None:
    before = store.resolve("main")
    with pytest.raises(SignatureError, match=r"was made but not signed: .*`castore sign "):
        store.commit(state(2), sign=keys.allowed)  # a file, but no key
    assert store.show("main").parents == (before,)


def test_the_settings_name_the_key_and_who_may_sign(store: Store, keys: Keys) -> None:
    toml = store.path / "castore.toml"
    shutil.copy(keys.allowed, store.path / "signers")
    toml.write_text(toml.read_text() + f'\n[signing]\nkey = "{keys.ada}"\nallowed_signers = "signers"\n')
    with castore.open(store.path) as other:
        other.commit(state(2), sign=True)
        other.tag("v1", sign=True)
        assert other.verify_signatures("v1").ok


@pytest.mark.parametrize("line", ["keys = 'x'", "key = 1"])
def test_settings_that_mean_nothing_are_named(store: Store, keys: Keys, line: str) -> None:
    toml = store.path / "castore.toml"
    toml.write_text(toml.read_text() + f"\n[signing]\n{line}\n")
    with castore.open(store.path) as other, pytest.raises(UsageError, match=r"castore.toml: \[signing\] takes key and"):
        other.sign("main", keys.ada)


def test_what_is_missing_is_named_before_anything_is_committed(store: Store, keys: Keys, tmp_path: Path) -> None:
    before = store.resolve("main")
    with pytest.raises(UsageError, match="there is no key file: name one with --key"):
        store.commit(state(2), sign=True)
    with pytest.raises(UsageError, match="none is no file"):
        store.commit(state(2), sign=tmp_path / "none")
    with pytest.raises(UsageError, match="there is no allowed signers file"):
        store.verify_signatures("main")
    with pytest.raises(RevisionError):
        store.sign("nothing", keys.ada)
    assert store.resolve("main") == before


def test_a_store_whose_hash_can_be_forged_refuses_to_sign(tmp_path: Path, keys: Keys) -> None:
    with castore.open(tmp_path / "fast", create=True) as fast:
        fast.commit(state(1))
        for sign in (
            lambda: fast.sign("main", keys.ada),
            lambda: fast.tag("v1", sign=keys.ada),
            lambda: fast.commit(state(2), sign=keys.ada),
        ):
            with pytest.raises(UsageError, match=r"xxh3-128, which does not withstand forgery.*--hash blake3"):
                sign()
        with pytest.raises(UsageError, match="a signature would vouch for nothing"):
            fast.verify_signatures("main", keys.allowed)
        assert fast.signed() == ([], [])
        assert len(list(fast.log("main"))) == 1


def test_without_ssh_keygen_that_is_said(
    store: Store, keys: Keys, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    store.sign("main", keys.ada)
    monkeypatch.setenv("PATH", str(tmp_path))
    for use in (lambda: store.sign("main", keys.ada), lambda: store.verify_signatures("main", keys.allowed)):
        with pytest.raises(SignatureError, match="ssh-keygen is not installed"):
            use()


def test_anyone_can_verify_without_castore(store: Store, keys: Keys) -> None:
    store.tag("v1", sign=keys.ada)
    payload = tag_payload("v1", store.resolve("main"))
    assert payload == f"tag v1\ncommit {store.resolve('main')}\n".encode()
    file = store.path / "signatures/tags/v1"
    command = ["ssh-keygen", "-Y", "verify", "-n", "castore", "-f", keys.allowed, "-I", "ada@example.org", "-s", file]
    assert subprocess.run(command, input=payload, capture_output=True).returncode == 0
