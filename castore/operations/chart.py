"""A curve as plain text: it looks the same on a terminal, in a pager and in a page of Markdown."""

from __future__ import annotations

import math
from collections.abc import Sequence

WIDTH, HEIGHT = 64, 12  # characters


def chart(points: Sequence[tuple[int, float]]) -> list[str]:
    """The lines of a chart of (step, value) points, oldest first: each column has the mean of what falls into it.

    Values that are not finite are left out; nothing is drawn of fewer than two others.
    """
    finite = [(step, value) for step, value in points if math.isfinite(value)]
    first, last = (min(step for step, _ in finite), max(step for step, _ in finite)) if finite else (0, 0)
    if first == last:
        return []
    columns: dict[int, list[float]] = {}
    for step, value in finite:
        columns.setdefault(round((step - first) / (last - first) * (WIDTH - 1)), []).append(value)
    means = {column: sum(value / len(values) for value in values) for column, values in columns.items()}
    low, high = min(means.values()), max(means.values())
    rows = [[" "] * WIDTH for _ in range(HEIGHT)]
    for column, value in means.items():
        share = (value / 2 - low / 2) / (high / 2 - low / 2) if high / 2 > low / 2 else 0.5  # no overflow
        rows[round((1 - share) * (HEIGHT - 1))][column] = "*"
    labels = [f"{high:.4g}", f"{low:.4g}"]
    margin = max(map(len, labels))
    names = [labels[0], *[""] * (HEIGHT - 2), labels[1]]
    lines = [f"{name:>{margin}} |{''.join(row)}".rstrip() for name, row in zip(names, rows, strict=True)]
    ends = f"{first}{str(last).rjust(WIDTH - len(str(first)))}"
    return [*lines, f"{'':>{margin}} +{'-' * WIDTH}", f"{'':>{margin}}  {ends}"]
