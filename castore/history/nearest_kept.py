"""Which commit to take instead of one whose state was dropped."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from castore.history.protocols import CommitSource
from castore.history.walk import ancestors
from castore.objects.commit import Commit


def nearest_kept(
    dropped: Commit, tips: Iterable[str], is_kept: Callable[[str], bool], commits: CommitSource
) -> Commit | None:
    """The commit with a whole state that is nearest to one without: before it, or after it on the way to a tip.

    Nearest by steps where these are known, else the later one. tips: full ids. None where there is none.
    """
    before = next((one for one in ancestors(dropped.parents, commits) if is_kept(one.id)), None)
    after = None
    for tip in tips:
        found = _after(dropped.id, tip, is_kept, commits)
        if found is not None and (after is None or _distance(found, dropped) < _distance(after, dropped)):
            after = found
    if before is None or after is None:
        return before or after
    return before if _distance(before, dropped) < _distance(after, dropped) else after


def _after(commit_id: str, tip: str, is_kept: Callable[[str], bool], commits: CommitSource) -> Commit | None:
    """The last commit with a state that a walk from `tip` meets before `commit_id`, None where it does not lead there.

    Along first parents: what was merged in is another line.
    """
    found = None
    for one in ancestors([tip], commits, first_parent=True):
        if one.id == commit_id:
            return found
        if is_kept(one.id):
            found = one
    return None


def _distance(one: Commit, other: Commit) -> float:
    if one.step is None or other.step is None:
        return 0.0
    return abs(one.step - other.step)
