"""What the names of checkpoints say: a training step, an epoch, or just a number."""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass
from pathlib import PurePath

SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", ".safetensors")

_THOUSANDS = {"": 1, "k": 1000, "m": 1_000_000}
_END = r"(?![0-9a-z]|\.[0-9])"  # not 100b, not 1.5
_STEP = re.compile(rf"(?<![a-z])(?:global[_-]?)?(?:steps?|iters?|iterations?)[=_-]*([0-9]+)([km]?){_END}")
_STEP_BEHIND = re.compile(r"(?<![0-9a-z.])([0-9]+)([km]?)[_-]?(?:steps?|iters?|iterations?)(?![a-z])")
_EPOCH = re.compile(rf"(?<![a-z])(?:epochs?|ep)[=_-]*([0-9]+)(){_END}")
_ALIAS = re.compile(r"(?<![a-z])(best|last|latest|final|newest|current)(?![a-z])")
_SHARD = re.compile(r"[0-9]+[_-]of[_-][0-9]+")
_CHECKPOINT_WORD = re.compile(r"checkpoint|ckpt|chkpt|model|weights|snapshot|save|state")
_MAX_NUMBER = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Name:
    """What one name says. Several values are a contradiction.

    steps, epochs: named as such. numbers: all there are, in order. alias: "best", "last" and the like, or "".
    shard: whether it is a part of a checkpoint. template: the name with # for each number.
    """

    text: str
    is_directory: bool
    steps: frozenset[int]
    epochs: frozenset[int]
    numbers: tuple[int, ...]
    alias: str
    shard: bool
    template: str

    @property
    def is_checkpoint_like(self) -> bool:
        """Whether it is one, having a number: any file; a directory like checkpoint-500 or 00500, but not version_0."""
        return not self.is_directory or bool(_CHECKPOINT_WORD.search(self.text.lower())) or self.text.isdigit()


def read_name(text: str, is_directory: bool) -> Name:
    """The numbers in a name: `step_100.pt`, `epoch=3-step=900.ckpt`, `global_step1000`, `checkpoint-500`, `10k_steps`.

    Only the ending of a file is cut off, so that `step=1.5` is no step 1.
    """
    stem = text if is_directory else PurePath(text).stem
    lower = stem.lower()
    alias = _ALIAS.search(lower)
    return Name(
        text=text,
        is_directory=is_directory,
        steps=_values(_STEP, lower) or _values(_STEP_BEHIND, lower),
        epochs=_values(_EPOCH, lower),
        numbers=tuple(int(digits) for digits in re.findall("[0-9]+", lower)),
        alias=alias[1] if alias is not None else "",
        shard=bool(_SHARD.search(lower)),
        template=re.sub("[0-9]+", "#", lower),
    )


def is_number(value: int) -> bool:
    """Whether a number can be a step."""
    return 0 <= value <= _MAX_NUMBER


def _values(pattern: re.Pattern[str], text: str) -> frozenset[int]:
    return frozenset(int(digits) * _THOUSANDS[unit] for digits, unit in pattern.findall(text))


@dataclass(frozen=True, slots=True)
class Pattern:
    """A glob that chooses names; {step} or {epoch} in it stands for the number that counts: `llama-7b-{step}.pt`."""

    regex: re.Pattern[str]

    def match(self, text: str) -> tuple[str, int] | None:
        """What the name says by the pattern ("step" or "epoch", the number); ("", 0) if just that it is chosen."""
        found = self.regex.match(text)
        if found is None:
            return None
        for kind, digits in found.groupdict().items():
            return kind, int(digits)
        return "", 0


def read_pattern(glob: str) -> Pattern:
    """Compile a glob with at most one of {step} and {epoch} in it. Raises ValueError."""
    pieces = re.split(r"\{(step|epoch)\}", glob)
    if len(pieces) > 3:
        raise ValueError("{step} or {epoch} may stand in it once")
    # A character for private use stands for the number while the glob is translated; no name of a file has it.
    translated = fnmatch.translate(glob if len(pieces) == 1 else f"{pieces[0]}\ue000{pieces[2]}")
    if len(pieces) == 3:
        translated = translated.replace("\ue000", f"(?P<{pieces[1]}>[0-9]+)", 1)
    return Pattern(re.compile(translated))
