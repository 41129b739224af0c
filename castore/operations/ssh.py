"""Signatures by SSH keys, made and verified by ssh-keygen, as Git does: https://man.openbsd.org/ssh-keygen.1#Y"""

from __future__ import annotations

import contextlib
import re
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from castore.errors import SignatureError

_NAMESPACE = "castore"  # a signature made for Git, or for mail, is none here
_KEY = re.compile(r"with (\S+ key \S+)")
_NOBODY = "No principal matched."
GOOD, UNKNOWN, BAD = "good", "unknown-key", "bad"


class _BadSignatureError(SignatureError):
    """A signature that is not right, as against none that could be verified."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a signature is worth. status: GOOD, UNKNOWN (it is right, but nobody who may sign has the key) or BAD.

    signer: who has the key, by the file of allowed signers. key: its kind and fingerprint. detail: why it is not good.
    """

    status: str
    signer: str = ""
    key: str = ""
    detail: str = ""


def sign(payload: bytes, key: Path) -> bytes:
    """The armored signature by a key: a private one, or a public one whose other half an agent has.

    ssh-keygen asks for a passphrase on the terminal where the key has one. Raises SignatureError.
    """
    done = _ssh_keygen("sign", "-f", str(key), input_=payload)
    if done.returncode != 0:
        raise SignatureError(f"ssh-keygen could not sign with {key}: {_lines(done)[-1]}")
    return done.stdout


def key_of(payload: bytes, signature: bytes) -> str:
    """The kind and fingerprint of the key that a signature was made with. Raises SignatureError if it is not right."""
    with _file(signature) as path:
        return _key(payload, path)


def verify(payload: bytes, signature: bytes, allowed: Path) -> Verdict:
    """What a signature is worth. allowed: a file of allowed signers, see ssh-keygen(1). Raises SignatureError."""
    with _file(signature) as path:
        try:
            key = _key(payload, path)
        except _BadSignatureError as error:
            return Verdict(BAD, detail=str(error))
        found = _ssh_keygen("find-principals", "-f", str(allowed), "-s", path)
        refusal = "" if _lines(found) == [_NOBODY] else _lines(found)[0]
        for signer in found.stdout.decode("utf-8", "replace").splitlines() if found.returncode == 0 else ():
            done = _ssh_keygen("verify", "-f", str(allowed), "-I", signer, "-s", path, input_=payload)
            if done.returncode == 0:
                return Verdict(GOOD, signer, key)
            refusal = _lines(done)[0]
    return Verdict(UNKNOWN, "", key, refusal)


@contextlib.contextmanager
def _file(signature: bytes) -> Iterator[str]:
    """The name of a file with a signature: ssh-keygen reads none from a pipe."""
    with tempfile.NamedTemporaryFile(prefix="castore-", suffix=".sig") as file:
        file.write(signature)
        file.flush()
        yield file.name


def _key(payload: bytes, path: str) -> str:
    done = _ssh_keygen("check-novalidate", "-s", path, input_=payload)
    key = _KEY.search(done.stdout.decode("utf-8", "replace"))
    if done.returncode != 0 or key is None:
        raise _BadSignatureError(f"the signature is of something else, or damaged: {_lines(done)[0]}")
    return key[1]


def _ssh_keygen(command: str, *arguments: str, input_: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    namespace = () if command == "find-principals" else ("-n", _NAMESPACE)
    try:
        return subprocess.run(["ssh-keygen", "-Y", command, *namespace, *arguments], input=input_, capture_output=True)
    except FileNotFoundError:
        raise SignatureError(
            "ssh-keygen is not installed, and castore signs and verifies with it, as Git does: install OpenSSH's client"
        ) from None


def _lines(done: subprocess.CompletedProcess[bytes]) -> list[str]:
    text = done.stderr.decode("utf-8", "replace")
    return [line.strip() for line in text.splitlines() if line.strip()] or [f"it ended with code {done.returncode}"]
