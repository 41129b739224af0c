"""Signing commits and tags, and what their signatures are worth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from castore import config
from castore.errors import CastoreError, CorruptError, UsageError
from castore.history.audit_line import Event
from castore.history.signatures import commit_payload, tag_payload
from castore.history.walk import ancestors
from castore.operations import ssh
from castore.operations.branches import check_present
from castore.repo import Repository

UNSIGNED = "unsigned"
Key = bool | str | Path  # True: the one that castore.toml names


@dataclass(frozen=True, slots=True)
class Checked:
    """One signature, or the want of any. kind: "commit" or "tag". name: of the tag, or the commit's id. status: "good",
    "unknown-key", "bad" or "unsigned". signer, key, detail: see `castore.operations.ssh.Verdict`."""

    kind: str
    name: str
    commit: str
    status: str
    signer: str = ""
    key: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class SignatureReport:
    """What was looked at. ok: nothing is bad; and what was asked for, a commit or a tag, has a good signature of its
    own, or of a whole store everything that is signed has one."""

    ok: bool
    checked: tuple[Checked, ...]

    @property
    def counts(self) -> dict[str, int]:
        """How many there are of each status."""
        found = Counter(one.status for one in self.checked)
        return {status: found[status] for status in (ssh.GOOD, ssh.UNKNOWN, ssh.BAD, UNSIGNED)}


def signing_key(repo: Repository, given: Key) -> Path:
    """The key to sign with. Raises UsageError where there is none, or where a signature would vouch for nothing."""
    _check_hash(repo)
    return _file(repo, "key", None if isinstance(given, bool) else given, "--key or $CASTORE_SIGNING_KEY")


def _check_hash(repo: Repository) -> None:
    if repo.config.hash != "blake3":
        raise UsageError(
            f"{repo.path} names commits by {repo.config.hash}, which does not withstand forgery, so a signature would "
            "vouch for nothing; commit what is to be signed to a store made with `castore init --hash blake3`"
        )


def sign(repo: Repository, rev: str, given: Key) -> Checked:
    """Sign a commit. Raises UsageError, SignatureError, RevisionError."""
    key = signing_key(repo, given)
    commit_id = repo.resolve(rev)
    payload = commit_payload(commit_id)
    signature = ssh.sign(payload, key)  # without the lock: a passphrase may be asked for
    made_with = ssh.key_of(payload, signature)
    with repo.lock.held():
        check_present(repo, commit_id)
        repo.audit.append(Event("sign", commit_id, detail=made_with))
        repo.signatures.add(commit_id, signature)
    return Checked("commit", commit_id, commit_id, ssh.GOOD, key=made_with)


def sign_made(repo: Repository, commit_id: str, given: Key) -> None:
    """Sign a commit that was just made. Raises as `sign`, and says that the commit is there."""
    try:
        sign(repo, commit_id, given)
    except CastoreError as error:
        raise type(error)(
            f"commit {commit_id} was made but not signed: {error}; `castore sign {commit_id[:12]}` signs it"
        ) from error


def tag_signature(repo: Repository, name: str, commit_id: str, given: Key) -> tuple[bytes, str]:
    """A signature of a tag to be made, and the key. Raises UsageError, SignatureError."""
    payload = tag_payload(name, commit_id)
    signature = ssh.sign(payload, signing_key(repo, given))
    return signature, ssh.key_of(payload, signature)


def verify(repo: Repository, rev: str | None, allowed: str | Path | None) -> SignatureReport:
    """What the signatures of a commit are worth, and of the tag if `rev` is one; None: of all commits and tags.

    allowed: the file of allowed signers, else the one that castore.toml names. Raises UsageError, RevisionError.
    """
    _check_hash(repo)
    signers = _file(repo, "allowed_signers", allowed, "--allowed-signers or $CASTORE_ALLOWED_SIGNERS")
    if rev is not None:
        named = tuple(_checked_by_name(repo, rev, signers))
        is_good = any(one.status == ssh.GOOD and one.kind == named[0].kind for one in named)
        return SignatureReport(is_good and all(one.status != ssh.BAD for one in named), named)
    checked = [
        one for tag, commit_id in sorted(repo.refs.tags().items()) for one in _tag(repo, tag, commit_id, signers)
    ]
    repo.progress.start("Verifying signatures", None, "commits")
    for commit in ancestors(repo.tips(), repo):
        checked.extend(_commit(repo, commit.id, signers))
        repo.progress.advance(1)
    repo.progress.finish()
    good = {(one.kind, one.name) for one in checked if one.status == ssh.GOOD}
    ok = all(one.status != ssh.BAD and (one.status != ssh.UNKNOWN or (one.kind, one.name) in good) for one in checked)
    return SignatureReport(ok, tuple(checked))


def _checked_by_name(repo: Repository, rev: str, signers: Path) -> Iterator[Checked]:
    commit_id = repo.resolve(rev)
    tag = rev.removeprefix("refs/").removeprefix("tags/")
    if repo.refs.tags().get(tag) == commit_id:
        yield from _tag(repo, tag, commit_id, signers)
    yield from _commit(repo, commit_id, signers)


def _tag(repo: Repository, name: str, commit_id: str, signers: Path) -> list[Checked]:
    payload = tag_payload(name, commit_id)
    return _all("tag", name, commit_id, payload, lambda: repo.signatures.of_tag(name), signers)


def _commit(repo: Repository, commit_id: str, signers: Path) -> list[Checked]:
    payload = commit_payload(commit_id)
    return _all("commit", commit_id, commit_id, payload, lambda: repo.signatures.of_commit(commit_id), signers)


def _all(
    kind: str, name: str, commit_id: str, payload: bytes, read: Callable[[], list[bytes]], signers: Path
) -> list[Checked]:
    try:
        signatures = read()
    except CorruptError as error:
        return [Checked(kind, name, commit_id, ssh.BAD, detail=str(error))]
    verdicts = [ssh.verify(payload, one, signers) for one in signatures]
    found = [Checked(kind, name, commit_id, one.status, one.signer, one.key, one.detail) for one in verdicts]
    return found or [Checked(kind, name, commit_id, UNSIGNED)]


def _file(repo: Repository, setting: str, given: str | Path | None, otherwise: str) -> Path:
    """A file that the caller names, or castore.toml: there, relative to the store."""
    where = repo.path / config.NAME
    table: dict[str, Any] = dict(repo.config.signing)
    for name, value in table.items():
        if name not in ("key", "allowed_signers") or not isinstance(value, str):
            raise UsageError(
                f"{where}: [signing] takes key and allowed_signers, which are paths, not {name} = {value!r}"
            )
    if given is None and setting not in table:
        raise UsageError(
            f"there is no {setting.replace('_', ' ')} file: name one with {otherwise}, or in [signing] of {where}"
        )
    path = Path(given).expanduser() if given is not None else repo.path / Path(table[setting]).expanduser()
    if not path.is_file():
        raise UsageError(
            f"{path} is no file; name the {setting.replace('_', ' ')} file with {otherwise}, or in [signing]"
        )
    return path
