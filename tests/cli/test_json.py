"""`--json` prints exactly the keys that docs/cli.md lists."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from tests.cli.shell import InProcess

MANUAL = (Path(__file__).parents[2] / "docs" / "cli.md").read_text("utf-8")
LISTED_KEYS = set(re.findall(r"`(\w+)`", MANUAL.split("## JSON")[1]))

COMPONENT = {"raw_bytes", "new_raw_bytes", "stored_bytes", "delta_bytes", "tensors"}
LOG = {
    *("id", "parents", "tree", "branch", "refs", "step", "metrics", "message", "author", "time", "tier", "meta"),
    *("owner", "state", "raw_bytes", "stored_bytes", "verified"),
}
CHANGE = {"path", "change", "old", "new", "relative_l2", "max_abs"}
STATS = {
    *("commits", "chunks", "packs", "raw_bytes", "unique_bytes", "stored_bytes", "standalone_bytes", "delta_bytes"),
    *("object_bytes", "codecs", "components", "dropped", "partial"),
}
GC = {
    *("dry_run", "live_chunks", "removed_chunks", "freed_bytes", "removed_packs", "rewritten_packs"),
    *("expired_reflog_entries", "abandoned_files", "kept_by_reflogs", "unreachable"),
}
REPACK = {
    *("dry_run", "finished", "encoded_chunks", "encoded_bytes", "moved_records", "small_packs", "damaged"),
    *("before_packs", "after_packs", "before_bytes", "after_bytes"),
}
SALVAGE = {
    *("path", "whole", "sound", "packs", "records", "commits", "lost_commits", "lost_provenance"),
    *("refs", "moved_refs", "lost_refs", "branches"),
}
SCRUB = {"busy", "read_bytes", "share", "finished", "warnings", "errors"}
TASK = {
    "name",
    "outcome",
    "due_in_seconds",
    "seconds",
    "summary",
    "bytes",
    "warnings",
    "errors",
    "unverified",
    "failure",
}
FSCK = {"ok", "packs", "records", "commits", "read_bytes", "errors", "repaired"}


def check(record: dict[str, object], keys: set[str]) -> None:
    assert set(record) == keys
    assert keys <= LISTED_KEYS


def test_init(shell: InProcess) -> None:
    record = shell.json("init", "runs")
    check(record, {"path", "hash", "shared"})
    assert record["path"] == str(shell.directory / "runs" / ".castore")


def test_commit(store: InProcess, write_checkpoint: Callable[..., Path]) -> None:
    record = store.json("commit", write_checkpoint())
    check(record, {"id", "raw_bytes", "new_bytes", "seconds"})
    assert record["raw_bytes"] == (store.directory / "model.pt").stat().st_size
    assert 0 < record["new_bytes"] < 2 * record["raw_bytes"]
    again = store.json("commit", "model.pt")
    assert again["raw_bytes"] == record["raw_bytes"]
    assert again["new_bytes"] < record["raw_bytes"] / 2


def test_log(history: InProcess) -> None:
    commits = history.json("log")
    for commit in commits:
        check(commit, LOG)
        assert commit["branch"] == "main"
        assert commit["state"] == "present"
        assert commit["meta"] == {"run": "a"}
        assert datetime.fromisoformat(commit["time"]).utcoffset() is not None
    assert [commit["step"] for commit in commits] == [3, 2, 1]
    assert [commit["refs"] for commit in commits] == [["main"], ["v1.0"], []]
    assert [commit["parents"] for commit in commits] == [[commits[1]["id"]], [commits[2]["id"]], []]
    assert [commit["metrics"]["loss"] for commit in commits] == [1 / 3, 1 / 2, 1.0]


def test_log_of_several_branches_says_which_each_commit_is_on(
    history: InProcess, write_checkpoint: Callable[..., Path]
) -> None:
    history.ok("branch", "exp1", "main~1")
    history.ok("commit", write_checkpoint(seed=9), "--branch", "exp1", "-m", "aside")
    branches = {commit["message"]: commit["branch"] for commit in history.json("log", "--all")}
    assert branches == {"aside": "exp1", "commit 3": "main", "commit 2": "main", "commit 1": "main"}
    assert {commit["branch"] for commit in history.json("log", "exp1~1")} == {"exp1"}
    assert {commit["branch"] for commit in history.json("log", "v1.0")} == {None}


def test_show(history: InProcess) -> None:
    record = history.json("show", "main", "--tensors")
    check(record, LOG - {"branch"} | {"dropped", "pinned", "signed", "environment", "stats", "entries"})
    assert record["dropped"] is None and record["pinned"] is None
    check(record["stats"], {"total", "components"})
    check(record["stats"]["total"], COMPONENT)
    for component in record["stats"]["components"].values():
        check(component, COMPONENT)
    for entry in record["entries"]:
        check(entry, {"path", "kind", "dtype", "shape", "raw_bytes", "value"})
    assert any(entry["shape"] == [4096] and entry["dtype"] == "float32" for entry in record["entries"])
    assert "entries" not in history.json("show", "main")


def test_diff(history: InProcess) -> None:
    record = history.json("diff", "main~1", "main")
    check(record, {"old", "new", "counts", "tensors", "values"})
    for change in record["tensors"] + record["values"]:
        check(change, CHANGE)
        assert change["change"] != "unchanged"
    changed = next(change for change in record["tensors"] if change["path"].endswith("weight"))
    assert changed["old"] == changed["new"] == "float32[4096]"
    assert 1 < changed["relative_l2"] < 2
    everything = history.json("diff", "main~1", "main", "--all")
    assert [c["change"] for c in everything["tensors"] if c["path"].endswith("bias")] == ["unchanged"]


def test_checkout(history: InProcess) -> None:
    record = history.json("checkout", "main", "-o", "out.pt")
    check(record, {"files", "raw_bytes", "dropped", "seconds"})
    assert record["files"] == ["out.pt"]
    assert record["raw_bytes"] == (history.directory / "out.pt").stat().st_size


def test_branch_switch_and_tag(history: InProcess) -> None:
    for name, listed in (("branch", {"name", "commit", "current"}), ("tag", {"name", "commit", "signed"})):
        check(history.json(name, "x1"), {"name", "commit", "deleted"})
        for record in history.json(name):
            check(record, listed)
        assert history.json(name, "-d", "x1")["deleted"] is True
    check(history.json("switch", "-c", "exp2"), {"branch", "commit"})
    assert [record["name"] for record in history.json("branch") if record["current"]] == ["exp2"]


def test_reflog(history: InProcess) -> None:
    entries = history.json("reflog", "main")
    for entry in entries:
        check(entry, {"ref", "index", "old", "new", "time", "author", "message"})
    assert [entry["index"] for entry in entries] == [0, 1, 2]
    assert [entry["new"] for entry in entries] == [commit["id"] for commit in history.json("log")]
    assert entries[-1]["old"] is None
    expired = history.json("reflog", "expire", "--expire=now", "--all")
    check(expired, {"expired"})
    assert expired["expired"] >= 3
    assert history.json("reflog", "main") == []


def test_stats(history: InProcess) -> None:
    record = history.json("stats")
    check(record, STATS)
    assert record["commits"] == 3
    assert record["stored_bytes"] > 0
    for component in record["components"].values():
        check(component, COMPONENT)
    commits = history.json("stats", "--commits")["per_commit"]
    for commit in commits:
        check(commit, COMPONENT | {"id", "step"})
    assert [commit["step"] for commit in commits] == [3, 2, 1]
    assert sum(commit["raw_bytes"] for commit in commits) == record["raw_bytes"]


def test_gc(history: InProcess, write_checkpoint: Callable[..., Path]) -> None:
    history.ok("commit", write_checkpoint(seed=9, elements=1 << 18), "--branch", "exp1", "-m", "doomed")
    history.ok("branch", "-D", "exp1")
    history.ok("reflog", "expire", "--expire=now", "--all")
    would = history.json("gc", "--dry-run")
    check(would, GC)
    for gone in would["unreachable"]:
        check(gone, {"commit", "reason", "step", "message"})
    assert [gone["message"] for gone in would["unreachable"]] == ["doomed"]
    done = history.json("gc")
    check(done, GC)
    assert (would["dry_run"], done["dry_run"]) == (True, False)
    assert done["removed_chunks"] == would["removed_chunks"] > 0
    assert done["freed_bytes"] > 500_000
    assert history.json("gc")["removed_chunks"] == 0
    assert history.json("fsck", "--read-data")["ok"] is True


def test_repack(history: InProcess) -> None:
    would, done = history.json("repack", "--dry-run"), history.json("repack")
    check(would, REPACK)
    check(done, REPACK)
    assert (would["dry_run"], done["dry_run"], done["finished"], done["damaged"]) == (True, False, True, [])
    assert done["encoded_chunks"] == would["encoded_chunks"] > 0
    assert history.json("repack")["encoded_chunks"] == 0
    assert history.ok("repack") == "nothing to do\n"
    assert history.json("fsck", "--read-data")["ok"] is True


def test_fsck(history: InProcess) -> None:
    record = history.json("fsck", "--read-data")
    check(record, FSCK)
    assert record["ok"] is True
    assert record["errors"] == []
    assert record["commits"] == 3
    pack = max((history.directory / ".castore" / "packs").rglob("*.pack"), key=lambda path: path.stat().st_size)
    data = bytearray(pack.read_bytes())
    data[len(data) // 2] ^= 1
    pack.chmod(0o600)
    pack.write_bytes(data)
    damaged = history.run("fsck", "--read-data", "--json")
    assert damaged.returncode == 9
    found = json.loads(damaged.stdout)
    assert found["ok"] is False
    for error in found["errors"]:
        check(error, {"problem", "pack", "record", "commits", "paths"})
    known = {commit["id"] for commit in history.json("log")}
    assert any(
        error["pack"] in pack.name and error["record"] and set(error["commits"]) <= known for error in found["errors"]
    )
    assert any(error["commits"] for error in found["errors"])


def test_salvage(history: InProcess) -> None:
    """In JSON and for people, of a store that does not open and lacks the footers and half of a pack."""
    store = history.directory / ".castore"
    ids = [commit["id"] for commit in history.json("log")]
    (store / "castore.toml").write_text("nonsense")
    for path in (store / "packs").rglob("*.pack"):
        path.chmod(0o600)
        path.write_bytes(path.read_bytes()[:-30])
    assert history.run("log").returncode == 9
    record = history.json("salvage", ".", "new")
    check(record, SALVAGE)
    assert record["whole"] is record["sound"] is True and record["refs"]["refs/heads/main"] == ids[0]
    for commit in record["commits"]:
        check(commit, {"id", "step", "message", "state", "lost", "tree_lost"})
    assert [commit["id"] for commit in record["commits"]] == ids[::-1]
    largest = max((store / "packs").rglob("*.pack"), key=lambda path: path.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[2000] ^= 1  # of the weights
    largest.write_bytes(data)
    told = history.run("salvage", ".", "newer")
    assert told.returncode == 9
    assert "lost: of commit " in told.stdout and "model.pt" in told.stdout
    assert told.stdout.splitlines()[-1].startswith(str(history.directory / "newer" / ".castore") + ": 3 commits, ")
    assert history.run("salvage", ".", "newer").returncode == 3


def test_scrub(history: InProcess) -> None:
    record = history.process.json("scrub")
    check(record, SCRUB)
    assert record["share"] == 1 and record["finished"] is True


def test_maintain(history: InProcess) -> None:
    for arguments in (["--dry-run"], ["--only", "prune,gc"], []):
        record = history.process.json("maintain", *arguments)
        check(record, {"dry_run", "busy", "warnings", "tasks"})
        for task in record["tasks"]:
            check(task, TASK)


def test_metrics(history: InProcess) -> None:
    for family in history.json("metrics"):
        check(family, {"name", "type", "help", "samples"})
        for sample in family["samples"]:
            check(sample, {"name", "labels", "value"})
