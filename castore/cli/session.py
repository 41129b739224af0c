"""What every command starts from: the store that the command line, the environment or the directory names."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from castore.cli.progress import progress_for

if TYPE_CHECKING:
    from castore.store import Store


@dataclass(frozen=True, slots=True)
class Session:
    """location: what `-C` or `$CASTORE_STORE` named, or None: look upward from the current directory."""

    location: Path | None

    @contextmanager
    def store(self) -> Iterator[Store]:
        """The store, open for the body, with progress shown if stderr is a terminal.

        Raises StoreNotFoundError, UnsupportedStoreError.
        """
        from castore import store as stores

        path = self.location if self.location is not None else stores.discover(Path.cwd())
        with progress_for(sys.stderr) as progress, stores.open(path, progress=progress) as store:
            yield store


pass_session = click.make_pass_decorator(Session)
