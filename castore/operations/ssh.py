"""Signatures by SSH keys, made and verified by ssh-keygen, as Git does: https://man.openbsd.org/ssh-keygen.1#Y"""

from __future__ import annotations

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from castore.errors import SignatureError

_NAMESPACE = "castore"  # a signature made for Git, or for mail, is none here
_KEY = re.compile(r"with (\S+ key \S+)")
_NOBODY = "No principal matched."
GOOD, UNKNOWN, BAD = "good", "unknown key", "bad"


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
        raise SignatureError(f"ssh-keygen could not sign with {key}: {_last_line(done)}")
    return done.stdout


def verify(payload: bytes, signature: bytes, allowed: Path) -> Verdict:
    """What a signature is worth. allowed: a file of allowed signers, see ssh-keygen(1). Raises SignatureError."""
    with tempfile.NamedTemporaryFile(prefix="castore-", suffix=".sig") as file:
        file.write(signature)
        file.flush()
        right = _ssh_keygen("check-novalidate", "-s", file.name, input_=payload)
        key = _KEY.search(right.stdout.decode("utf-8", "replace"))
        if right.returncode != 0 or key is None:
            return Verdict(BAD, detail=_last_line(right))
        found = _ssh_keygen("find-principals", "-f", str(allowed), "-s", file.name)
        refusal = "" if _lines(found) == [_NOBODY] else _first_line(found)
        for signer in found.stdout.decode("utf-8", "replace").splitlines() if found.returncode == 0 else ():
            done = _ssh_keygen("verify", "-f", str(allowed), "-I", signer, "-s", file.name, input_=payload)
            if done.returncode == 0:
                return Verdict(GOOD, signer, key[1])
            refusal = _first_line(done)
    return Verdict(UNKNOWN, "", key[1], refusal)


def key_of(payload: bytes, signature: bytes) -> str:
    """The kind and fingerprint of the key that a signature was made with. Raises SignatureError if it is not right."""
    with tempfile.NamedTemporaryFile(prefix="castore-", suffix=".sig") as file:
        file.write(signature)
        file.flush()
        done = _ssh_keygen("check-novalidate", "-s", file.name, input_=payload)
    key = _KEY.search(done.stdout.decode("utf-8", "replace"))
    if done.returncode != 0 or key is None:
        raise SignatureError(f"ssh-keygen made a signature that is not right: {_last_line(done)}")
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


def _first_line(done: subprocess.CompletedProcess[bytes]) -> str:
    return _lines(done)[0]


def _last_line(done: subprocess.CompletedProcess[bytes]) -> str:
    return _lines(done)[-1]
