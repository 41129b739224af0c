"""A page about a commit, in the manner of a model card: what it is for, where it comes from, how to get it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from castore.errors import CorruptError, UsageError
from castore.history.drops import Drop
from castore.history.walk import ancestors
from castore.objects.commit import RESUMED_FROM, Commit
from castore.objects.provenance import Provenance
from castore.operations.chart import chart
from castore.operations.provenance import provenance
from castore.quantities import size
from castore.repo import Repository

INTENDED_USE, CAVEATS = "intended-use", "caveats"  # notes (`Commit.meta`) that a card takes its texts from
_MOST_CHARTS = 3
_MOST_ANCESTORS = 12  # that are worth a line
_MOST_CHARS = 200  # of a text in a table
_SECTIONS = ("config", "hyperparameters", "seeds", "data", "notes", "numerics", "distributed", "hardware")


def card(repo: Repository, rev: str, intended_use: str | None, caveats: str | None, metrics: Sequence[str]) -> str:
    """The page, in Markdown. intended_use, caveats: default what the commit's notes of these names say. metrics: those
    to draw; default: the first three of the commit.

    Raises RevisionError; UsageError for a metric that no commit on the way to this one has.
    """
    commit = repo.commit(repo.resolve(rev))
    line = list(ancestors([commit.id], repo, first_parent=True))[::-1]
    made = _made(repo, commit)
    title = commit.message.strip().splitlines()[0] if commit.message.strip() else f"Checkpoint {commit.id[:12]}"
    parts = [
        [f"# {_plain(title)}", "", *_facts(repo, commit)],
        ["## Intended use", "", intended_use or commit.meta.get(INTENDED_USE) or "Not given."],
        ["## Caveats", "", caveats or commit.meta.get(CAVEATS) or "Not given."],
        ["## Lineage", "", *_lineage(repo, commit, line)],
        ["## Metrics", "", *_metrics(commit, line, metrics)],
        ["## Contents", "", *_contents(commit)],
        ["## Environment", "", *_environment(commit, made)],
        ["## How to restore", "", *_restoring(repo, commit)],
    ]
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def _made(repo: Repository, commit: Commit) -> Provenance:
    try:
        return provenance(repo, commit)
    except CorruptError as error:
        repo.progress.note(f"what produced {commit.id[:12]} can't be read, and is left out: {error}")
        return Provenance({})


def _facts(repo: Repository, commit: Commit) -> Iterator[str]:
    drop, verified = repo.drops.get(commit.id), repo.verifications.get(commit.id)
    names = [f"branch {name}" for name, at in sorted(repo.refs.branches().items()) if at == commit.id]
    names += [f"tag {name}" for name, at in sorted(repo.refs.tags().items()) if at == commit.id]
    rows = [
        ("Commit", f"`{commit.id}`"),
        ("Names", _plain(", ".join(names)) or "none"),
        ("Step", "none" if commit.step is None else str(commit.step)),
        ("Author", _plain(commit.author)),
        ("Committed", commit.time.isoformat(sep=" ", timespec="seconds")),
        ("Size", size(commit.stats.total.raw_bytes)),
        ("State", _state(drop)),
    ]
    if verified is not None:
        found = "restored as committed" if verified.ok else _plain(verified.problem)
        rows.append(("Verified", f"{verified.time.isoformat(sep=' ', timespec='seconds')}: {found}"))
    rows += [(_plain(name), _plain(text)) for name, text in commit.meta.items() if name not in (INTENDED_USE, CAVEATS)]
    return _table(("", ""), rows)


def _state(drop: Drop | None) -> str:
    if drop is None:
        return "present"
    what = f" ({_plain(', '.join(drop.components))})" if drop.components else ""
    return f"{drop.state}{what} on {drop.time:%Y-%m-%d} by `{drop.rule}`"


def _lineage(repo: Repository, commit: Commit, line: Sequence[Commit]) -> Iterator[str]:
    """How many commits lead here, and those of them that a person would ask about."""
    tags: dict[str, list[str]] = {}
    for name, at in sorted(repo.refs.tags().items()):
        tags.setdefault(at, []).append(name)
    first = line[0]
    yield f"{len(line)} commits lead to it, from `{first.id[:12]}` of {first.time:%Y-%m-%d %H:%M} on. Among them:"
    yield ""
    worth: list[tuple[str, ...]] = []
    for one in line:
        why = [f"tag {name}" for name in tags.get(one.id, [])]
        why += ["the first"] if one is first else []
        why += [f"resumed from `{one.meta[RESUMED_FROM][:12]}`"] if RESUMED_FROM in one.meta else []
        why += [f"other parents: {', '.join(f'`{p[:12]}`' for p in one.parents[1:])}"] if len(one.parents) > 1 else []
        why += ["this one"] if one.id == commit.id else []
        if why:
            step = "" if one.step is None else str(one.step)
            worth.append((f"`{one.id[:12]}`", step, _plain(one.message.split("\n", 1)[0]), "; ".join(why)))
    shown = worth if len(worth) <= _MOST_ANCESTORS else [worth[0], *worth[1 - _MOST_ANCESTORS :]]
    yield from _table(("commit", "step", "message", "why"), shown)


def _metrics(commit: Commit, line: Sequence[Commit], chosen: Sequence[str]) -> Iterator[str]:
    known = {name for one in line for name in one.metrics}
    for name in chosen:
        if name not in known:
            raise UsageError(
                f"no commit up to {commit.id[:12]} has a metric {name!r}; they have {', '.join(sorted(known))}"
            )
    if not known:
        yield "None recorded."
        return
    rows = []
    for name in sorted(known):
        values = [(one.metrics[name], one.step) for one in line if math.isfinite(one.metrics.get(name, math.nan))]
        here = commit.metrics.get(name)
        ends = [_at(*pick(values, key=lambda pair: pair[0])) for pick in (min, max)] if values else ["", ""]
        rows.append((_plain(name), "" if here is None else f"{here:.6g}", *ends))
    yield from _table(("metric", "here", "lowest on the way", "highest on the way"), rows)
    for name in chosen or list(commit.metrics)[:_MOST_CHARTS]:
        drawn = chart([(one.step, one.metrics[name]) for one in line if one.step is not None and name in one.metrics])
        if drawn:
            yield from ("", f"{_plain(name)} by step:", "", "```text", *drawn, "```")


def _at(value: float, step: int | None) -> str:
    return f"{value:.6g}" + ("" if step is None else f" (step {step})")


def _contents(commit: Commit) -> Iterator[str]:
    parts = commit.stats.components.items()
    return _table(
        ("component", "tensors", "size"), [(_plain(name), str(one.tensors), size(one.raw_bytes)) for name, one in parts]
    )


def _environment(commit: Commit, made: Provenance) -> Iterator[str]:
    get = made.get
    diff = get("code", "diff")
    state = f" with {diff.count(chr(10)) + 1} lines of uncommitted changes" if diff else ""
    rows = [
        ("Code", f"{get('code', 'commit')} of {get('code', 'repository') or 'its repository'}{state}"),
        ("Command", get("command", "argv")),
        ("Python", get("python", "version")),
        ("torch", get("torch", "version") or get("packages", "torch")),
        ("CUDA", get("torch", "cuda")),
        ("cuDNN", get("torch", "cudnn")),
        ("Platform", get("system", "platform")),
        ("Packages", f"{len(made.sections.get('packages', {}))} recorded"),
    ]
    if get("code", "commit") is None:
        rows = rows[1:]
    yield from _table(("", ""), [(name, _plain(text)) for name, text in rows if text is not None])
    for section in _SECTIONS:
        texts = made.sections.get(section)
        if texts:
            yield from ("", f"{section.capitalize()}:", "")
            yield from _table(("", ""), [(_plain(name), _plain(text)) for name, text in sorted(texts.items())])
    yield from ("", f"`castore show {commit.id[:12]} --env --json` has all of it, the uncommitted changes too.")


def _restoring(repo: Repository, commit: Commit) -> Iterator[str]:
    drop = repo.drops.get(commit.id)
    if drop is not None and not drop.components:
        yield "Its state was dropped; what this page says is all that there is."
        return
    short, store = commit.id[:12], repo.path.parent if repo.path.name == ".castore" else repo.path
    yield from (
        "```sh",
        f"castore -C {store} verify {short}",
        f"castore -C {store} checkout {short} -o restored",
        "```",
    )
    yield from ("", "```python", "import castore", "")
    yield from (f'store = castore.open("{store}")', f'state = store.load("{short}")', "```")


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    for row in (header, ("---",) * len(header), *rows):
        yield "| " + " | ".join(row) + " |"


def _plain(text: str | Mapping[str, str] | None) -> str:
    """A text as it is, whatever it looks like as Markdown or HTML, or to a terminal: on one line, and not too long."""
    line = "".join(char if char.isprintable() else " " for char in " ".join(str(text).split()))
    line = line if len(line) <= _MOST_CHARS else f"{line[:_MOST_CHARS]}..."
    for char in "\\`*_[]<>|":
        line = line.replace(char, f"\\{char}" if char not in "<>" else {"<": "&lt;", ">": "&gt;"}[char])
    return line
