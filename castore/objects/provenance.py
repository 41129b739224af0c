"""What produced a commit, as an object of its own: a run's thousand commits name the same one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from castore import limits
from castore.errors import CorruptError, UsageError
from castore.objects.canonical import dumps, loads

CUT = "\n[cut: {} more bytes]"


@dataclass(frozen=True, slots=True)
class Provenance:
    """Texts by section and name, such as `sections["packages"]["numpy"]`; docs/reproducibility.md lists them."""

    sections: Mapping[str, Mapping[str, str]]

    def get(self, section: str, name: str) -> str | None:
        """One text, None where it is not recorded."""
        return self.sections.get(section, {}).get(name)


def encode(provenance: Provenance) -> bytes:
    """The object. Texts longer than `limits.MAX_PROVENANCE_TEXT_BYTES` are cut, and say so; empty sections left out.

    Raises UsageError when all together is larger than it may be.
    """
    cut = {
        section: {name: _cut(text) for name, text in texts.items()}
        for section, texts in provenance.sections.items()
        if texts
    }
    data = dumps(cut)
    if len(data) > limits.MAX_PROVENANCE_BYTES:
        largest = max(cut, key=lambda section: sum(map(len, cut[section].values())))
        raise UsageError(
            f"what is said of the run takes {len(data)} bytes, more than {limits.MAX_PROVENANCE_BYTES}, most of it in "
            f"{largest!r}; commit it as a file"
        )
    return data


def _cut(text: str) -> str:
    data = text.encode("utf-8", "replace")
    if len(data) <= limits.MAX_PROVENANCE_TEXT_BYTES:
        return data.decode("utf-8")
    kept = data[: limits.MAX_PROVENANCE_TEXT_BYTES - len(CUT) - 20].decode("utf-8", "ignore")
    return kept + CUT.format(len(data) - len(kept.encode()))


def decode(data: bytes, what: str) -> Provenance:
    """Read the object, all of it checked. what: it, for an error. Raises CorruptError."""
    if len(data) > limits.MAX_PROVENANCE_BYTES:
        raise CorruptError(f"{what} is larger than it may be; run `castore fsck`")
    value = loads(data, what)
    if type(value) is not dict or not all(map(_is_section, value.items())):
        raise CorruptError(f"{what} is malformed: it is no map of sections of texts; run `castore fsck`")
    return Provenance(value)


def _is_section(item: tuple[object, object]) -> bool:
    name, texts = item
    return type(name) is str and type(texts) is dict and all(type(one) is str for pair in texts.items() for one in pair)
