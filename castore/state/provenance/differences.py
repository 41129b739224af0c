"""What differs between two runs, and which of it can change results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from castore.objects.provenance import Provenance

_ALL = frozenset({"*"})
# By section, the names that can change results. The rest says who, where and how: it can't.
MATTERS: Mapping[str, frozenset[str]] = {
    "code": frozenset({"commit", "diff", "untracked"}),
    "config": _ALL,
    "data": frozenset({"version", "blake3"}),
    "distributed": frozenset({"world_size", "backend"}),
    "hardware": frozenset({"cpu", "gpus", "driver"}),
    "hyperparameters": _ALL,
    "numerics": _ALL,
    "packages": _ALL,
    "python": frozenset({"version", "implementation"}),
    "seeds": _ALL,
    "torch": _ALL,
}
_FOUND = frozenset({"distributed", "hardware", "torch"})  # found if it can be: that it is not there tells nothing
TORCH_SEEDS = ("torch", "torch.cuda")
_THREADS = "torch.threads"  # a note of commits from before there were provenances


@dataclass(frozen=True, slots=True)
class Difference:
    """A text that differs. old, new: None where it is not recorded. matters: whether it can change results."""

    section: str
    name: str
    old: str | None
    new: str | None
    matters: bool


def differences(old: Provenance, new: Provenance) -> list[Difference]:
    """All that differs, by section and name."""
    found: list[Difference] = []
    for section in sorted({*old.sections, *new.sections}):
        before, after = old.sections.get(section, {}), new.sections.get(section, {})
        for name in sorted({*before, *after}):
            if before.get(name) != after.get(name):
                can = can_change_results(section, name)
                found.append(Difference(section, name, before.get(name), after.get(name), can))
    return found


def can_change_results(section: str, name: str) -> bool:
    """Whether a run can come out otherwise where this differs."""
    matters = MATTERS.get(section, frozenset())
    return ("*" in matters or name in matters) and (section, name) != ("packages", "castore")


def explaining(old: Provenance, new: Provenance) -> list[Difference]:
    """What can change results, of what both say something of: a section that one lacks tells nothing.

    Left out is what follows from another difference (of another version of torch, its build), and torch's seeds, since
    the states of its generators are restored.
    """
    both = {section for section in old.sections if old.sections[section] and new.sections.get(section)}
    found = [
        one
        for one in differences(old, new)
        if one.matters and one.section in both and not (one.section in _FOUND and None in (one.old, one.new))
    ]
    if any((one.section, one.name) == ("torch", "version") for one in found):
        found = [one for one in found if one.section != "torch" or one.name == "version"]
    told = {("packages", "torch"), *(("seeds", name) for name in TORCH_SEEDS)}
    return [one for one in found if (one.section, one.name) not in told]


def restricted(provenance: Provenance, to: Provenance) -> Provenance:
    """The texts of one provenance of which another has one too."""
    sections = {
        section: {name: text for name, text in texts.items() if to.get(section, name) is not None}
        for section, texts in provenance.sections.items()
    }
    return Provenance(sections)


def of_summary(environment: Mapping[str, str], meta: Mapping[str, str]) -> Provenance:
    """What a commit of an older version says: a few words, and in a note the threads."""
    texts = {
        ("python", "version"): environment.get("python"),
        ("system", "platform"): environment.get("platform"),
        ("system", "host"): environment.get("host"),
        ("system", "user"): environment.get("user"),
        ("command", "argv"): environment.get("argv"),
        ("code", "commit"): environment.get("git"),
        ("packages", "castore"): environment.get("castore"),
        ("packages", "numpy"): environment.get("numpy"),
        ("torch", "version"): environment.get("torch"),
        ("numerics", "threads"): meta.get(_THREADS),
    }
    sections: dict[str, dict[str, str]] = {}
    for (section, name), text in texts.items():
        if text is not None:
            sections.setdefault(section, {})[name] = text
    return Provenance(sections)
