"""The ASCII graph of `log --graph`, drawn as Git draws it for linear, branched and merged histories. Pure.

A lane is a column in which a commit is awaited. Slot k, at character 2k, is where lane k stands; gap k, at character
2k-1, is where an edge from slot k leans to the left. Below a commit its lane becomes its parents' lanes; lanes that
then await the same commit join the leftmost of them, and lanes with free room on their left move up, one slot a row.
An edge that must pass under other lanes takes two rows: `| |_|/` and `|/| |`.

Where it differs from Git: an octopus merge fans out one parent a row (`|\\`, `|\\ \\`) instead of `*-.`, and an edge
never moves within a commit's own line.
"""

from __future__ import annotations

from collections.abc import Sequence

from castore.objects.commit import Commit


def graph_prefixes(commits: Sequence[Commit]) -> list[tuple[str, list[str]]]:
    """For each of `commits` (in log order, children first): what precedes its line, and the lines that follow it.

    The prefix ends with a space, so that `prefix + text` is a line. Following lines have no trailing spaces.
    Parents that are not among `commits` keep their lanes open to the end.
    """
    lanes: list[str] = []
    drawn = []
    for commit in commits:
        if commit.id not in lanes:
            lanes.append(commit.id)
        position = lanes.index(commit.id)
        cells = " ".join("*" if slot == position else "|" for slot in range(len(lanes)))
        below = _Below(lanes, position, tuple(dict.fromkeys(commit.parents)))
        drawn.append((cells.ljust(2 * max(len(lanes), below.width) - 1) + " ", below.rows))
        lanes = below.lanes
    return drawn


class _Below:
    """The rows between a commit's line and the next, the lanes that leave them, and their greatest width in slots."""

    def __init__(self, lanes: list[str], position: int, parents: tuple[str, ...]) -> None:
        self.rows: list[str] = []
        self._slots: list[str | None] = list(lanes)
        self._hidden: int | None = None  # the slot that a passing edge joins in the next row
        if len(parents) > 1:
            self._fan_out(lanes, position, list(parents))
        else:
            self._slots[position] = parents[0] if parents else None
        self.width = len(self._slots)
        self.lanes = list(dict.fromkeys(slot for slot in self._slots if slot is not None))
        targets = {awaited: slot for slot, awaited in enumerate(self.lanes)}
        while self._hidden is not None or any(a is not None and targets[a] != k for k, a in enumerate(self._slots)):
            self._move_up(targets)

    def _fan_out(self, lanes: list[str], position: int, parents: list[str]) -> None:
        """Draw the edges of a merge. What the first row shows of `|/|` and `|\\|` are parents with a lane already."""
        joins = lanes.index(parents.pop(0)) if parents[0] in lanes[:position] else None
        self._slots[position] = parents[0]
        added = parents[:0:-1]
        next_lane = position + 1
        rows = [_Row(len(lanes), straight=len(lanes))]
        if added and added == lanes[next_lane : next_lane + 1]:
            rows[0].put_gap(next_lane, "\\")
        elif added:
            rows = []
            for parent in added:
                self._slots.insert(next_lane, parent)
                rows.append(_Row(len(self._slots), straight=next_lane))
                for slot in range(next_lane, len(self._slots)):
                    rows[-1].put_gap(slot, "\\")
        if joins is not None:
            self._lean(rows[0], position, joins)
            for row in rows[1:]:
                self._arrive(row)
        self.rows += [row.text() for row in rows]

    def _move_up(self, targets: dict[str, int]) -> None:
        row = _Row(len(self._slots))
        may_pass = self._hidden is None
        self._arrive(row)
        moved: list[str | None] = [None] * len(self._slots)
        settled = True  # every lane so far stands at its target, with none missing between them
        for slot, awaited in enumerate(self._slots):
            target = slot if awaited is None else targets[awaited]
            if awaited is None:
                settled = False
            elif target == slot:
                moved[slot] = awaited
                row.put_slot(slot, "|")
            elif moved[slot - 1] in (None, awaited):
                moved[slot - 1] = awaited
                row.put_gap(slot, "/")
                settled = False
            elif may_pass and settled:
                self._lean(row, slot, target)
                may_pass = settled = False
            else:
                moved[slot] = awaited
                row.put_slot(slot, "|")
                settled = False
        self._slots = moved
        self.rows.append(row.text())

    def _lean(self, row: _Row, slot: int, target: int) -> None:
        """Draw an edge from `slot` to the lane at `target`; it arrives in this row or, under others, in the next."""
        row.put_gap(slot, "/")
        for gap in range(target + 2, slot):
            row.put_gap(gap, "_")
        if target + 1 < slot:
            self._hidden = target

    def _arrive(self, row: _Row) -> None:
        if self._hidden is not None:
            row.put_gap(self._hidden + 1, "/")
            self._hidden = None


class _Row:
    """One line's characters. straight: that many lanes, from the left, go on as they are."""

    def __init__(self, slots: int, straight: int = 0) -> None:
        self._cells = list("| " * straight + "  " * (slots - straight))

    def put_slot(self, slot: int, cell: str) -> None:
        self._cells[2 * slot] = cell

    def put_gap(self, gap: int, cell: str) -> None:
        self._cells[2 * gap - 1] = cell

    def text(self) -> str:
        return "".join(self._cells).rstrip()
