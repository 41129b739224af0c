"""Which entries of a directory are checkpoints, and in which order they were made, by their names alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath

from castore.errors import UsageError
from castore.operations.checkpoint_names import SUFFIXES, Name, Pattern, is_number, read_name, read_pattern

_HINT = "choose with --pattern, in which {step} stands for the number that counts"


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of a directory. kind: "file" or "directory", through symlinks, else what it is in words.

    link: the entry of the same directory that it is a symlink to, or "".
    """

    name: str
    kind: str
    link: str = ""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One to import. number: what it is ordered by, and its step; epoch: None where its name has none."""

    name: str
    number: int
    epoch: int | None


@dataclass(frozen=True, slots=True)
class Plan:
    """by: "step", "epoch" or "number". left_out: names, and why."""

    checkpoints: tuple[Checkpoint, ...]
    left_out: tuple[tuple[str, str], ...]
    by: str


def plan(entries: Sequence[Entry], pattern: str | None, identical: Callable[[str, str], bool]) -> Plan:
    """The checkpoints among `entries`, oldest first: by step where names say one, else by epoch, else by number.

    identical: whether two entries hold the same bytes; asked only of two with the same number. Raises UsageError that
    names what is ambiguous, or says that there are none.
    """
    left_out: dict[str, str] = {}
    names = _chosen(sorted(entries, key=lambda entry: entry.name), _compiled(pattern), left_out)
    by, numbered = _numbered(names, left_out)
    groups: dict[int, list[Name]] = defaultdict(list)
    for name, number in numbered:
        if not is_number(number):
            raise UsageError(f"{name.text!r} has the number {number}, which is too large for a step; {_HINT}")
        groups[number].append(name)
    checkpoints = []
    for number in sorted(groups):
        name = _one_of(groups[number], number, by, identical, left_out)
        epochs = name.epochs if len(name.epochs) == 1 else ()
        checkpoints.append(Checkpoint(name.text, number, next(iter(epochs), None)))
    return Plan(tuple(checkpoints), tuple(sorted(left_out.items())), by)


def _compiled(pattern: str | None) -> Pattern | None:
    try:
        return None if pattern is None else read_pattern(pattern)
    except ValueError as error:
        raise UsageError(f"the pattern {pattern!r} makes no sense: {error}") from None


def _chosen(entries: Sequence[Entry], pattern: Pattern | None, left_out: dict[str, str]) -> list[Name]:
    """The entries that may be checkpoints, with what their names say."""
    present = {entry.name for entry in entries}
    names = []
    for entry in entries:
        name = read_name(entry.name, entry.kind == "directory")
        matched = ("", 0) if pattern is None else pattern.match(entry.name)
        if reason := _unsuitable(entry, name, matched, pattern is not None, present):
            left_out[entry.name] = reason
            continue
        assert matched is not None
        kind, number = matched
        if kind == "step":
            name = replace(name, steps=frozenset({number}))
        elif kind == "epoch":
            name = replace(name, steps=frozenset(), epochs=frozenset({number}))
        names.append(name)
    return names


def _unsuitable(entry: Entry, name: Name, matched: tuple[str, int] | None, has_pattern: bool, present: set[str]) -> str:
    if entry.name == ".castore":
        return "a store"
    if entry.link in present:
        return f"a symlink to {entry.link}"
    if entry.kind not in ("file", "directory"):
        return entry.kind
    if has_pattern:
        return "does not match the pattern" if matched is None else ""
    if entry.name.startswith("."):
        return "hidden"
    if entry.kind == "file" and PurePath(entry.name).suffix.lower() not in SUFFIXES:
        return "no checkpoint by its ending"
    if name.shard:
        return "a part of a checkpoint"
    return ""


def _numbered(names: Sequence[Name], left_out: dict[str, str]) -> tuple[str, list[tuple[Name, int]]]:
    """The kind of number that they are ordered by, and each one's; those without it are left out."""
    for by in ("step", "epoch"):
        said = [(name, name.steps if by == "step" else name.epochs) for name in names]
        if not any(values for _, values in said):
            continue
        numbered = []
        for name, values in said:
            if len(values) > 1:
                shown = " and ".join(map(str, sorted(values)))
                raise UsageError(f"{name.text!r} names more than one {by}: {shown}; {_HINT}")
            if values:
                numbered.append((name, next(iter(values))))
            else:
                left_out[name.text] = f"its name has no {by}, which the others are ordered by"
        return by, numbered
    numbered = []
    for name in names:
        if not name.numbers or name.alias:
            left_out[name.text] = "its name has no step, epoch or number"
        elif not name.is_checkpoint_like:
            left_out[name.text] = "no checkpoint by its name"
        else:
            numbered.append((name, _number(name, names)))
    return "number", numbered


def _number(name: Name, names: Sequence[Name]) -> int:
    """The only number, or the only one in which it differs from others of the same form."""
    if len(name.numbers) == 1:
        return name.numbers[0]
    alike = [other.numbers for other in names if other.template == name.template]
    varying = [place for place in range(len(name.numbers)) if len({numbers[place] for numbers in alike}) > 1]
    if len(varying) != 1:
        shown = ", ".join(map(str, name.numbers))
        raise UsageError(f"{name.text!r} has several numbers ({shown}), and which is the step is ambiguous; {_HINT}")
    return name.numbers[varying[0]]


def _one_of(
    group: Sequence[Name], number: int, by: str, identical: Callable[[str, str], bool], left_out: dict[str, str]
) -> Name:
    """The one that is imported of those with the same number."""
    ranked = sorted(group, key=lambda name: (bool(name.alias), len(name.text), name.text))
    first = ranked[0]
    for other in ranked[1:]:
        if identical(first.text, other.text):
            left_out[other.text] = f"the same bytes as {first.text}"
        elif other.alias and not first.alias:
            left_out[other.text] = f"of {by} {number} too, as {first.text}"
        else:
            raise UsageError(
                f"{first.text!r} and {other.text!r} are both of {by} {number}, and differ; "
                "choose with --pattern, or move one away"
            )
    return first
