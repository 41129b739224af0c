"""Who hears of damage, and of what does not verify: whoever castore.toml says is to be told."""

from __future__ import annotations

from collections.abc import Sequence

from castore.maintenance.reports import FsckError
from castore.maintenance.verifying.verification import VerifyReport
from castore.monitoring.settings import DAMAGE, FAILED_VERIFICATION
from castore.repo import Repository

_MOST_NAMED = 20


def tell_of_damage(repo: Repository, errors: Sequence[FsckError], found_by: str) -> None:
    """Raise the alert, with the commits and tensors that are affected, and wait until it is sent."""
    commits = sorted({one for error in errors for one in error.commits})
    paths = sorted({one for error in errors for one in error.paths})
    text = f"{found_by} found damage in {repo.path}: {errors[0].problem}"
    text += f", and {len(errors) - 1} more" if len(errors) > 1 else ""
    text += f"; {len(commits)} commits are affected; see `castore fsck`"
    repo.alerts.send(
        DAMAGE, text, wait=True, found_by=found_by, commits=commits[:_MOST_NAMED], paths=paths[:_MOST_NAMED]
    )


def tell_of_failed_verification(repo: Repository, report: VerifyReport) -> None:
    """Count the failure, raise the alert, and wait until it is sent."""
    repo.events.record("failure", of="verify", text=report.problem[:500])
    text = f"commit {report.commit[:12]} of {repo.path} does not verify: {report.problem}"
    repo.alerts.send(FAILED_VERIFICATION, text, wait=True, commit=report.commit, problem=report.problem[:500])
