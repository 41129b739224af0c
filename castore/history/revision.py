"""Which commit a revision means: refs first, then ids, then the way back from there."""

from __future__ import annotations

import re

from castore.errors import AmbiguousRevisionError, RevisionError
from castore.history.names import is_valid_name
from castore.history.protocols import CommitSource
from castore.history.reflog import Reflog, values
from castore.history.refs import Refs
from castore.history.revision_syntax import Ancestor, AtStep, Parent, Revision, Suffix, parse
from castore.history.walk import ancestors

__all__ = ["Revision", "parse", "resolve"]

MIN_PREFIX = 4  # hex digits, as in Git

_HEX = re.compile(r"[0-9a-fA-F]+")


def resolve(text: str, refs: Refs, commits: CommitSource, reflog: Reflog) -> str:
    """The full hex id of the commit that a revision names.

    Raises RevisionError (AmbiguousRevisionError) whose message says what is there instead, CorruptError for a damaged
    ref, MissingError where history itself has a hole.
    """
    revision = parse(text)
    if revision.reflog is None:
        found = _named(revision.name, refs, commits)
    else:
        found = _logged(revision.name, revision.reflog, refs, reflog)
    so_far = Revision(revision.name, revision.reflog)
    for suffix in revision.suffixes:
        found = _follow(suffix, found, so_far, commits)
        so_far = Revision(so_far.name, so_far.reflog, (*so_far.suffixes, suffix))
    return found


def _named(name: str, refs: Refs, commits: CommitSource) -> str:
    if name == "HEAD":
        head = refs.head()
        if head.commit is None:
            raise _unborn(head.branch)
        return head.commit
    candidates = _ref_candidates(name, refs)
    if len(candidates) > 1:
        raise AmbiguousRevisionError(f"{name!r} is ambiguous: write {' or '.join(candidates)}")
    if candidates:
        return next(iter(candidates.values()))
    if _HEX.fullmatch(name) and MIN_PREFIX <= len(name) <= refs.id_hex_length:
        ids = sorted(commits.commits_with_prefix(name.lower()))
        if len(ids) > 1:
            raise AmbiguousRevisionError(
                f"{name!r} is ambiguous: the ids of several commits start so: {', '.join(ids)}; write more digits"
            )
        if ids:
            return ids[0]
    raise _unknown(name, refs)


def _ref_candidates(name: str, refs: Refs) -> dict[str, str]:
    """Every ref that `name` could mean, by its full spelling, and its commit. A full spelling means itself alone."""
    for prefix, lookup in (("refs/heads/", refs.branch), ("refs/tags/", refs.tag)):
        rest = name.removeprefix(prefix)
        if rest != name and is_valid_name(rest) and (commit := lookup(rest)) is not None:
            return {name: commit}
    found = {}
    for spelling, lookup, rest in (
        (f"refs/{name}", refs.tag, name.removeprefix("tags/") if name.startswith("tags/") else ""),
        (f"refs/{name}", refs.branch, name.removeprefix("heads/") if name.startswith("heads/") else ""),
        (f"refs/tags/{name}", refs.tag, name),
        (f"refs/heads/{name}", refs.branch, name),
    ):
        if is_valid_name(rest) and (commit := lookup(rest)) is not None:
            found[spelling] = commit
    return found


def _logged(name: str, number: int, refs: Refs, reflog: Reflog) -> str:
    ref, current, label = _ref_with_log(name, refs)
    past = values(reflog.read(ref), current)
    if number >= len(past):
        known = f"{len(past) - 1} earlier value{'s' if len(past) != 2 else ''}"
        raise RevisionError(
            f"{label}@{{{number}}}: the reflog of {label} has only {known}; `castore reflog` lists them"
        )
    value = past[number]
    if value is None:
        raise _unborn(refs.head().branch)
    return value


def _ref_with_log(name: str, refs: Refs) -> tuple[str, str | None, str]:
    """Full spelling, present value and short name of the ref whose log `name@{N}` looks into."""
    if name in ("", "HEAD"):
        head = refs.head()
        if name == "" and head.branch is not None:
            return f"refs/heads/{head.branch}", head.commit, head.branch
        return "HEAD", head.commit, "HEAD"
    candidates = _ref_candidates(name, refs)
    branches = [spelling for spelling in candidates if spelling.startswith("refs/heads/")]
    if len(branches) == 1:  # only branches have logs: a tag of the same name cannot be meant
        branch = branches[0].removeprefix("refs/heads/")
        return branches[0], candidates[branches[0]], branch
    if branches:
        raise AmbiguousRevisionError(f"{name!r} is ambiguous: write {' or '.join(branches)}")
    if candidates:
        raise RevisionError(f"{name!r} is a tag, and tags have no reflog; write {name} without @{{N}}")
    raise _unknown(name, refs)


def _follow(suffix: Suffix, start: str, so_far: Revision, commits: CommitSource) -> str:
    if isinstance(suffix, Ancestor):
        return _ancestor(suffix, start, so_far, commits)
    if isinstance(suffix, Parent):
        return _parent(suffix, start, so_far, commits)
    return _at_step(suffix, start, so_far, commits)


def _ancestor(suffix: Ancestor, start: str, so_far: Revision, commits: CommitSource) -> str:
    found = start
    for generation in range(suffix.generations):
        parents = commits.commit(found).parents
        if not parents:
            if generation == 0:
                raise RevisionError(f"{so_far}{suffix}: {so_far} is the first commit, nothing is before it")
            before = f"{generation} commit{'s' if generation != 1 else ''}"
            raise RevisionError(
                f"{so_far}{suffix}: only {before} before {so_far}; the first commit is {so_far}~{generation}"
            )
        found = parents[0]
    return found


def _parent(suffix: Parent, start: str, so_far: Revision, commits: CommitSource) -> str:
    parents = commits.commit(start).parents
    if suffix.number == 0:
        return start
    if suffix.number > len(parents):
        has = f"{len(parents) or 'no'} parent{'s' if len(parents) != 1 else ''}"
        raise RevisionError(f"{so_far}{suffix}: {so_far} has {has}")
    return parents[suffix.number - 1]


def _at_step(suffix: AtStep, start: str, so_far: Revision, commits: CommitSource) -> str:
    seen = set()
    for commit in ancestors([start], commits):
        if commit.step == suffix.step:
            return commit.id
        if commit.step is not None:
            seen.add(commit.step)
    below = max((step for step in seen if step < suffix.step), default=None)
    above = min((step for step in seen if step > suffix.step), default=None)
    near = [str(step) for step in (below, above) if step is not None]
    hint = f"the nearest are {' and '.join(near)}" if len(near) == 2 else f"the nearest is {''.join(near)}"
    raise RevisionError(
        f"no commit of step {suffix.step} in the history of {so_far}; {hint if near else 'none there has a step'}"
    )


def _unborn(branch: str | None) -> RevisionError:
    return RevisionError(f"no commits yet on {branch}; make one with `castore commit`")


def _unknown(name: str, refs: Refs) -> RevisionError:
    if name == refs.head().branch:
        return _unborn(name)
    import difflib  # only for the message: `castore log` should not wait for it

    known = [*refs.branch_names(), *refs.tag_names()]
    close = difflib.get_close_matches(name[:255], known, n=3)
    if close:
        hint = f"did you mean {' or '.join(dict.fromkeys(close))}?"
    elif _HEX.fullmatch(name) and len(name) < MIN_PREFIX:
        hint = f"an id prefix needs at least {MIN_PREFIX} digits"
    elif _HEX.fullmatch(name):
        hint = "no commit's id starts so"
    else:
        hint = "`castore branch` and `castore tag` list what there is"
    return RevisionError(f"unknown revision {name[:80]!r}; {hint}")
