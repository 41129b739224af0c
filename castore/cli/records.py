"""What `--json` prints, as docs/cli.md promises it. Keys are added, never renamed and never removed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from castore.history.drops import DROPPED, PARTIAL, PRESENT
from castore.objects.commit import OWNER, Commit, CommitStats, ComponentStats

if TYPE_CHECKING:
    from castore.history.drops import Drop
    from castore.history.pins import Pin
    from castore.history.verifications import Verification
    from castore.maintenance.reports import (
        Explanation,
        FsckError,
        FsckReport,
        GcReport,
        PruneReport,
        RepackReport,
        SalvageReport,
        ScrubReport,
    )
    from castore.maintenance.upkeep.maintain import MaintainReport, TaskRun
    from castore.maintenance.verifying.verification import ReplayReport, VerifyReport
    from castore.monitoring.prometheus import Family
    from castore.objects.provenance import Provenance
    from castore.operations.import_checkpoints import ImportedCheckpoint
    from castore.operations.reports import Diff, StoreStats, TensorChange
    from castore.retention.decide import Verdict
    from castore.state.provenance.differences import Difference


def commit_record(commit: Commit, branch: str | None, refs: Sequence[str], drop: Drop | None) -> dict[str, Any]:
    """One commit. branch: the branch that is being listed; refs: the names that point at this very commit; drop: what
    retention dropped of it."""
    return {
        "id": commit.id,
        "parents": list(commit.parents),
        "tree": commit.tree,
        "branch": branch,
        "refs": list(refs),
        "step": commit.step,
        "metrics": dict(commit.metrics),
        "message": commit.message,
        "author": commit.author,
        "owner": commit.meta.get(OWNER),
        "time": commit.time.isoformat(),
        "tier": commit.tier,
        "meta": dict(commit.meta),
        "state": PRESENT if drop is None else drop.state,
        "raw_bytes": commit.stats.total.raw_bytes,
        "stored_bytes": commit.stats.total.stored_bytes,
    }


def drop_record(drop: Drop | None) -> dict[str, Any] | None:
    """What retention dropped of a commit; None for nothing."""
    if drop is None:
        return None
    return {"time": drop.time.isoformat(), "rule": drop.rule, "components": list(drop.components)}


def pin_record(pin: Pin) -> dict[str, Any]:
    """A pin."""
    return {"commit": pin.commit, "time": pin.time.isoformat(), "reason": pin.reason}


def verdict_record(verdict: Verdict, alone_bytes: int | None) -> dict[str, Any]:
    """What becomes of one commit. alone_bytes: None where nobody looked."""
    return {
        "id": verdict.commit.id,
        "step": verdict.commit.step,
        "before": verdict.before,
        "state": verdict.after,
        "reasons": list(verdict.reasons),
        "rule": verdict.rule or None,
        "components": list(verdict.components),
        "alone_bytes": alone_bytes,
    }


def prune_record(report: PruneReport, freed: GcReport | None) -> dict[str, Any]:
    """What prune dropped, or would. freed: what gc did after it."""
    states = Counter(one.after for one in report.changed)
    return {
        "dry_run": report.dry_run,
        "dropped": states[DROPPED],
        "partial": states[PARTIAL],
        "freed_bytes": report.freed_bytes if freed is None else freed.freed_bytes,
        "warnings": list(report.warnings),
        "commits": [verdict_record(one, report.alone_bytes.get(one.commit.id)) for one in report.commits],
        "gc": gc_record(freed) if freed is not None else None,
    }


def why_record(found: Explanation) -> dict[str, Any]:
    """Why a state is kept or dropped."""
    record = verdict_record(found.verdict, found.alone_bytes)
    return {**record, "dropped": drop_record(found.drop), "warnings": list(found.warnings)}


def provenance_record(made: Provenance) -> dict[str, dict[str, str]]:
    """What produced a commit: texts by section and name."""
    return {section: dict(sorted(texts.items())) for section, texts in sorted(made.sections.items())}


def difference_record(one: Difference) -> dict[str, Any]:
    """A text that differs between what produced two commits."""
    return {"section": one.section, "name": one.name, "old": one.old, "new": one.new, "matters": one.matters}


def verification_record(found: Verification | None) -> dict[str, Any] | None:
    """When a commit was last verified; None for never."""
    if found is None:
        return None
    return {
        "time": found.time.isoformat(),
        "ok": found.ok,
        "problem": found.problem or None,
        "replay": found.replay or None,
    }


def verify_record(report: VerifyReport) -> dict[str, Any]:
    """What verify found."""
    replay = report.replay
    return {
        "commit": report.commit,
        "ok": report.ok,
        "tensors": report.tensors,
        "raw_bytes": report.raw_bytes,
        "seconds": round(report.seconds, 6),
        "problems": list(report.problems),
        "replay": None if replay is None else _replay_record(replay),
    }


def _replay_record(replay: ReplayReport) -> dict[str, Any]:
    diverged = replay.diverged
    return {
        "function": replay.replay.function,
        "steps": replay.replay.steps,
        "metric": replay.replay.metric,
        "tolerance": replay.replay.tolerance,
        "compared": [
            {"step": one.step, "recorded": one.recorded, "replayed": one.replayed, "same": one.same}
            for one in replay.compared
        ],
        "diverged": None if diverged is None else diverged.step,
        "differences": [difference_record(one) for one in replay.differences],
        "notes": list(replay.notes),
    }


def component_record(stats: ComponentStats) -> dict[str, int]:
    """What one part of a state took."""
    return {
        "raw_bytes": stats.raw_bytes,
        "new_raw_bytes": stats.new_raw_bytes,
        "stored_bytes": stats.stored_bytes,
        "delta_bytes": stats.delta_bytes,
        "tensors": stats.tensors,
    }


def components_record(components: Mapping[str, ComponentStats]) -> dict[str, dict[str, int]]:
    """Parts of a state by name."""
    return {name: component_record(stats) for name, stats in components.items()}


def commit_stats_record(stats: CommitStats) -> dict[str, Any]:
    """What one commit took."""
    return {"total": component_record(stats.total), "components": components_record(stats.components)}


def store_stats_record(stats: StoreStats) -> dict[str, Any]:
    """What the store holds."""
    return {
        "commits": stats.commits,
        "dropped": stats.dropped,
        "partial": stats.partial,
        "chunks": stats.chunks,
        "packs": stats.packs,
        "raw_bytes": stats.raw_bytes,
        "unique_bytes": stats.unique_bytes,
        "stored_bytes": stats.stored_bytes,
        "standalone_bytes": stats.standalone_bytes,
        "delta_bytes": stats.delta_bytes,
        "object_bytes": stats.object_bytes,
        "codecs": dict(stats.codecs),
        "components": components_record(stats.components),
    }


def change_record(change: TensorChange) -> dict[str, Any]:
    """One path of a diff."""
    return {
        "path": change.path,
        "change": change.change,
        "old": change.old,
        "new": change.new,
        "relative_l2": change.relative_l2,
        "max_abs": change.max_abs,
    }


def diff_record(diff: Diff, show_unchanged: bool) -> dict[str, Any]:
    """A diff, without the unchanged paths unless they are asked for."""
    return {
        "old": diff.old,
        "new": diff.new,
        "counts": dict(diff.counts),
        "tensors": [change_record(c) for c in diff.tensors if show_unchanged or c.change != "unchanged"],
        "values": [change_record(c) for c in diff.values if show_unchanged or c.change != "unchanged"],
    }


def import_record(reports: Sequence[ImportedCheckpoint], dry_run: bool) -> dict[str, Any]:
    """What an import found and did."""
    return {
        "dry_run": dry_run,
        "checkpoints": [
            {
                "name": report.name,
                "outcome": report.outcome,
                "reason": report.reason,
                "step": report.step,
                "epoch": report.epoch,
                "time": report.time.isoformat() if report.time is not None else None,
                "id": report.commit or None,
                "raw_bytes": report.raw_bytes,
                "new_bytes": report.new_bytes,
            }
            for report in reports
        ],
    }


def gc_record(report: GcReport) -> dict[str, Any]:
    """What gc removed, or would."""
    return {
        "dry_run": report.dry_run,
        "live_chunks": report.live_chunks,
        "removed_chunks": report.removed_chunks,
        "freed_bytes": report.freed_bytes,
        "removed_packs": report.removed_packs,
        "rewritten_packs": report.rewritten_packs,
        "expired_reflog_entries": report.expired_reflog_entries,
        "abandoned_files": report.abandoned_files,
        "kept_by_reflogs": report.kept_by_reflogs,
        "unreachable": [
            {"commit": gone.commit, "reason": gone.reason, "step": gone.step, "message": gone.message}
            for gone in report.unreachable
        ],
    }


def repack_record(report: RepackReport) -> dict[str, Any]:
    """What repack did, or would."""
    return {
        "dry_run": report.dry_run,
        "finished": report.finished,
        "encoded_chunks": report.encoded_chunks,
        "encoded_bytes": report.encoded_bytes,
        "moved_records": report.moved_records,
        "small_packs": report.small_packs,
        "before_packs": report.before_packs,
        "after_packs": report.after_packs,
        "before_bytes": report.before_bytes,
        "after_bytes": report.after_bytes,
        "damaged": [{"chunk": chunk, "reason": why} for chunk, why in report.damaged.items()],
    }


def fsck_record(report: FsckReport) -> dict[str, Any]:
    """What fsck found."""
    return {
        "ok": report.ok,
        "packs": report.packs,
        "records": report.records,
        "commits": report.commits,
        "read_bytes": report.read_bytes,
        "errors": damage_record(report.errors),
        "repaired": list(report.repaired),
    }


def damage_record(errors: Sequence[FsckError]) -> list[dict[str, Any]]:
    """What is wrong."""
    return [
        {
            "problem": error.problem,
            "pack": error.pack,
            "record": error.record,
            "commits": list(error.commits),
            "paths": list(error.paths),
        }
        for error in errors
    ]


def salvage_record(report: SalvageReport) -> dict[str, Any]:
    """What was salvaged, and what was lost."""
    return {
        "path": str(report.path),
        "whole": report.whole,
        "sound": report.sound,
        "packs": report.packs,
        "records": report.records,
        "commits": [
            {
                "id": one.commit,
                "step": one.step,
                "message": one.message,
                "state": one.state,
                "lost": list(one.lost),
                "tree_lost": one.tree_lost,
            }
            for one in report.commits
        ],
        "lost_commits": list(report.lost_commits),
        "lost_provenance": list(report.lost_provenance),
        "refs": dict(report.refs),
        "moved_refs": dict(report.moved_refs),
        "lost_refs": list(report.lost_refs),
        "branches": dict(report.branches),
    }


def scrub_record(report: ScrubReport | None) -> dict[str, Any]:
    """What a scrub read and found. None: another process was at upkeep."""
    return {
        "busy": report is None,
        "read_bytes": report.read_bytes if report is not None else 0,
        "share": report.share if report is not None else None,
        "finished": report is not None and report.finished,
        "warnings": list(report.warnings) if report is not None else [],
        "errors": damage_record(report.errors) if report is not None else [],
    }


def maintain_record(report: MaintainReport) -> dict[str, Any]:
    """What upkeep did, or would."""
    return {
        "dry_run": report.dry_run,
        "busy": report.busy,
        "warnings": list(report.warnings),
        "tasks": [_task_record(run) for run in report.tasks],
    }


def _task_record(run: TaskRun) -> dict[str, Any]:
    done = run.report
    return {
        "name": run.name,
        "outcome": run.outcome,
        "due_in_seconds": run.next_s,
        "seconds": round(run.seconds, 3),
        "summary": done.summary if done is not None else None,
        "bytes": done.nbytes if done is not None else 0,
        "warnings": list(done.warnings) if done is not None else [],
        "errors": damage_record(done.errors) if done is not None else [],
        "unverified": list(done.failed) if done is not None else [],
        "failure": str(run.error) if run.error is not None else None,
    }


def metrics_record(families: Sequence[Family]) -> list[dict[str, Any]]:
    """Metrics, as they stand in the text for Prometheus."""
    return [
        {
            "name": family.name,
            "type": family.kind,
            "help": family.help,
            "samples": [{"name": one.name, "labels": dict(one.labels), "value": one.value} for one in family.samples],
        }
        for family in families
    ]
