"""SSH keys, made by ssh-keygen as users make theirs."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Keys:
    """Files in a directory. ada, grace: private keys. allowed: who may sign, ada alone. locked: has a passphrase."""

    directory: Path

    @property
    def ada(self) -> Path:
        return self.directory / "ada"

    @property
    def grace(self) -> Path:
        return self.directory / "grace"

    @property
    def locked(self) -> Path:
        return self.directory / "locked"

    @property
    def allowed(self) -> Path:
        return self.directory / "allowed_signers"

    def fingerprint(self, key: Path) -> str:
        done = subprocess.run(["ssh-keygen", "-lf", key], capture_output=True, text=True, check=True)
        return done.stdout.split()[1]

    def allow(self, line: str, key: Path) -> Path:
        """A file of allowed signers with one line: `line`, with KEY for the key."""
        kind, text, *_ = key.with_suffix(".pub").read_text().split()
        path = self.directory / f"allowed-{len(list(self.directory.iterdir()))}"
        path.write_text(line.replace("KEY", f"{kind} {text}") + "\n")
        return path


def make_keys(directory: Path) -> Keys:
    """Fails where there is no ssh-keygen: without it nothing of signatures is tested."""
    assert shutil.which("ssh-keygen"), "these tests need ssh-keygen: install OpenSSH's client (openssh-client)"
    keys = Keys(directory)
    for key, passphrase in ((keys.ada, ""), (keys.grace, ""), (keys.locked, "a secret")):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-C", key.name, "-f", key], check=True)
    kind, text, *_ = keys.ada.with_suffix(".pub").read_text().split()
    keys.allowed.write_text(f"ada@example.org {kind} {text}\n")
    return keys
