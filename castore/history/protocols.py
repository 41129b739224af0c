"""What history asks of the layers around it."""

from __future__ import annotations

from typing import Protocol

from castore.objects.commit import Commit


class CommitSource(Protocol):
    """Where commits are read from."""

    def commit(self, commit_id: str) -> Commit:
        """The commit of a full hex id. Raises MissingError when no pack has it."""
        ...

    def commits_with_prefix(self, prefix: str) -> list[str]:
        """Full hex ids of all commits whose id starts with `prefix` (hex, at least 4 digits), at most 16 of them."""
        ...
