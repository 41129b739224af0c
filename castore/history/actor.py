"""Who acts, and when: what commits, reflogs and the audit log say of it."""

from __future__ import annotations

import os
from datetime import datetime


def whoami() -> str:
    """The user of this process: USER@HOST."""
    import pwd

    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # no entry in the password file, as in some containers
        user = str(os.getuid())
    return f"{user}@{os.uname().nodename}"


def now() -> datetime:
    """The time with the local zone."""
    return datetime.now().astimezone()
