"""What `--json` prints of tiers, as docs/cli.md promises it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from castore.maintenance.reports import MirrorReport, TierOf, TierReport


def tier_record(report: TierReport) -> dict[str, Any]:
    """A tier."""
    tier = report.tier
    return {
        "name": tier.name,
        "include": list(tier.include),
        "exclude": list(tier.exclude),
        "every_steps": tier.every_steps,
        "every_seconds": tier.every_seconds,
        "rules": [text for text, _ in (*tier.rules.keep, *tier.rules.drop)],
        "max_depth": tier.max_depth,
        "directory": None if report.directory is None else str(report.directory),
        "states": report.states,
        "waiting": report.waiting,
    }


def tier_of_record(found: TierOf) -> dict[str, Any]:
    """The tier of a commit."""
    return {
        "id": found.commit,
        "tier": found.tier,
        "committed_as": found.made,
        "moved": None if found.moved is None else found.moved.time.isoformat(),
        "copies": [str(directory) for directory in found.copies],
    }


def mirror_record(report: MirrorReport) -> dict[str, Any]:
    """What was copied."""
    return {
        "ok": report.ok,
        "directories": [
            {
                "directory": str(one.directory),
                "tiers": list(one.tiers),
                "copied": one.copied,
                "new_bytes": one.new_bytes,
                "left": one.left,
                "dropped": one.dropped,
                "failed": list(one.failed),
                "error": None if one.error is None else str(one.error),
            }
            for one in report.directories
        ],
    }
