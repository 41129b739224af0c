"""castore sign, commit -S, tag -s, verify --signatures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.shell import InProcess
from tests.keys import Keys, make_keys


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return make_keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def signed(shell: InProcess, keys: Keys, write_checkpoint: Callable[..., Path]) -> InProcess:
    """A signed commit with a signed tag, and one on top of it that is not signed."""
    shell.ok("init", "--hash", "blake3")
    path = write_checkpoint(seed=1)
    shell.ok("commit", path, "-S", "--key", keys.ada, "--owner", "team a")
    shell.ok("tag", "-s", "v1", env={"CASTORE_SIGNING_KEY": str(keys.ada)})
    write_checkpoint(seed=2)
    shell.ok("commit", path, "--meta", "owner=team b")
    return shell


def test_what_is_signed_is_said(signed: InProcess) -> None:
    assert "(signed)" in signed.ok("tag")
    assert [(tag["name"], tag["signed"]) for tag in signed.json("tag")] == [("v1", True)]
    assert "signed" in signed.ok("show", "v1")
    assert (signed.json("show", "v1")["signed"], signed.json("show")["signed"]) == (True, False)


def test_owners_are_listed_with_commits(signed: InProcess) -> None:
    assert [commit["owner"] for commit in signed.json("log")] == ["team b", "team a"]


def test_the_owner_of_the_settings_is_that_of_commits_that_name_none(
    signed: InProcess, write_checkpoint: Callable[..., Path]
) -> None:
    toml = signed.directory / ".castore" / "castore.toml"
    toml.write_text(toml.read_text() + '\n[commit]\nowner = "lab"\n')
    signed.ok("commit", write_checkpoint(seed=3))
    signed.ok("commit", write_checkpoint(seed=4), "--owner", "me")
    assert [commit["owner"] for commit in signed.json("log", "-n", "2")] == ["me", "lab"]


def test_a_signed_tag_is_verified(signed: InProcess, keys: Keys) -> None:
    lines = signed.ok("verify", "--signatures", "v1", "--allowed-signers", keys.allowed).splitlines()
    assert [line.split(":")[0] for line in lines] == ["good", "good"]
    assert lines[0].startswith("good: tag v1 at ")
    assert f"by ada@example.org, ED25519 key {keys.fingerprint(keys.ada)}" in lines[0]
    report = signed.json("verify", "--signatures", "v1", env={"CASTORE_ALLOWED_SIGNERS": str(keys.allowed)})
    assert report["ok"]
    assert report["counts"] == {"good": 2, "unknown-key": 0, "bad": 0, "unsigned": 0}
    assert set(report["signatures"][0]) == {"kind", "name", "commit", "status", "signer", "key", "detail"}


def test_what_is_not_signed_exits_with_13(signed: InProcess, keys: Keys) -> None:
    done = signed.run("verify", "--signatures", "--allowed-signers", keys.allowed)
    assert (done.returncode, done.stdout.split(":")[0]) == (13, "unsigned")


def test_an_unknown_key_exits_with_13_and_is_named(signed: InProcess, keys: Keys) -> None:
    assert keys.fingerprint(keys.grace) in signed.ok("sign", "--key", keys.grace)
    done = signed.run("verify", "--signatures", "--allowed-signers", keys.allowed)
    assert done.returncode == 13
    assert done.stdout.startswith("unknown key: commit ")
    assert keys.fingerprint(keys.grace) in done.stdout


def test_all_that_is_signed_is_verified(signed: InProcess, keys: Keys) -> None:
    out = signed.ok("verify", "--signatures", "--all", "--allowed-signers", keys.allowed)
    assert out.splitlines()[-1] == "2 good, 0 unknown key, 0 bad, 1 unsigned"
    signed.ok("sign", "--key", keys.grace, "--json")
    assert signed.run("verify", "--signatures", "--all", "--allowed-signers", keys.allowed).returncode == 13


def test_a_key_that_needs_a_passphrase_fails_without_a_terminal(signed: InProcess, keys: Keys) -> None:
    assert "could not sign" in signed.process.refused(13, "sign", "--key", keys.locked, start_new_session=True)


def test_options_that_do_not_go_together(signed: InProcess) -> None:
    assert "--all goes with --signatures" in signed.refused(2, "verify", "--all")
    assert "nothing to replay" in signed.refused(2, "verify", "--signatures", "--replay", "a:b", "--steps", "1")
    assert "name a REV, or say --all" in signed.refused(2, "verify", "--signatures", "--all", "main")
    assert "name the tag" in signed.refused(2, "tag", "-s")
    assert "nothing else" in signed.refused(2, "tag", "-d", "-s", "v1")
