"""How long phases tell that they are under way, without knowing whether a terminal is listening."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Receives the progress of one phase after another; calls may come from several threads."""

    def start(self, phase: str, total: int | None, unit: str) -> None:
        """A phase begins: what it does ("Encoding"), how much there is (None: unknown), in "bytes" or a noun."""
        ...

    def advance(self, amount: int) -> None:
        """So much of the phase is done."""
        ...

    def note(self, text: str) -> None:
        """Something a person should know now, such as that a kernel is being compiled."""
        ...

    def finish(self) -> None:
        """The phase is over."""
        ...


class Silent:
    """Nobody is watching: notes go to the log `castore`, as warnings, so that they are seen even without any set-up."""

    def start(self, phase: str, total: int | None, unit: str) -> None:
        pass

    def advance(self, amount: int) -> None:
        pass

    def note(self, text: str) -> None:
        import logging

        logging.getLogger("castore").warning("castore: %s", text)

    def finish(self) -> None:
        pass
