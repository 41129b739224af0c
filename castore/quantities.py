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
