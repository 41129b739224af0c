"""Keeping secrets out of what is recorded."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

MASK = "***"
_SECRET = re.compile(r"(token(?![a-z])|passw|secret|credential|auth(?!or)|api[-_]?key|[-_]key$|^-*key$)", re.IGNORECASE)
_SPECIAL_TOKEN = re.compile(
    r"(bos|eos|pad|unk|sep|cls|mask|additional_special|image|decoder_start)_token", re.IGNORECASE
)
_URL_PASSWORD = re.compile(
    r"(\w{1,20}://[^/@:\s]{0,200}):[^/@\s]{1,500}@"
)  # bounded: a text may be of one line, and long
_LEAST_SECRET_CHARS = 8  # a shorter value of a variable is not looked for elsewhere: "1" is everywhere


def is_secret(name: str) -> bool:
    """Whether an option, variable or key of this name holds a secret, as far as its name tells."""
    return _SECRET.search(name) is not None and _SPECIAL_TOKEN.search(name) is None


class Masker:
    """Masks in texts what is known to be secret: passwords in URLs, and values that secret names have elsewhere.

    So a key that is in a variable WANDB_API_KEY, and was pasted into the code or a configuration too, does not get into
    a store by way of these.
    """

    def __init__(self, environ: Mapping[str, str], argv: Iterable[str]) -> None:
        self._argv, found = _split(argv)
        found += [value for name, value in environ.items() if is_secret(name)]
        values = sorted({one for one in found if len(one) >= _LEAST_SECRET_CHARS}, key=len, reverse=True)
        self._values = re.compile("|".join(map(re.escape, values))) if values else None

    def text(self, text: str) -> str:
        """A text without the secrets in it."""
        text = _URL_PASSWORD.sub(rf"\1:{MASK}@", text)
        return text if self._values is None else self._values.sub(MASK, text)

    def arguments(self) -> list[str]:
        """The arguments without the values of options whose names look like secrets."""
        return [self.text(argument) for argument in self._argv]


def _split(argv: Iterable[str]) -> tuple[list[str], list[str]]:
    """Arguments with secret values masked, and these values."""
    shown: list[str] = []
    hidden: list[str] = []
    hide_next = False
    for argument in argv:
        name, equals, value = argument.partition("=")
        if hide_next and not argument.startswith("--"):
            shown.append(MASK)
            hidden.append(argument)
            hide_next = False
            continue
        hide_next = False
        if is_secret(name) and equals:
            argument = f"{name}={MASK}"
            hidden.append(value)
        elif is_secret(name) and name.startswith("-"):
            hide_next = True
        shown.append(argument)
    return shown, hidden
