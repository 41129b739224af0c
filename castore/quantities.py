"""Numbers as people read them."""

from __future__ import annotations


def size(count: int) -> str:
    """A number of bytes for people, in decimal units: "512 B", "95.1 MB"."""
    if abs(count) < 1000:
        return f"{count} B"
    units = ("kB", "MB", "GB", "TB", "PB")
    power = next((n for n in range(1, len(units)) if abs(count) < 999.5 * 1000**n), len(units))
    value = count / 1000**power
    digits = 2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0
    return f"{value:.{digits}f} {units[power - 1]}"


def duration(seconds: float) -> str:
    """A span of time for people: "0.4 s", "12 min", "5 h", "3 d"."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
