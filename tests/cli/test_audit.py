"""castore audit."""

from __future__ import annotations

from tests.cli.shell import InProcess


def test_the_log_is_listed_newest_first(history: InProcess) -> None:
    lines = history.ok("audit").splitlines()
    assert len(lines) == 5
    assert " tag refs/tags/v1.0 none.." in lines[0]
    assert lines[1].endswith(" step 3: commit 3")
    assert history.ok("audit", "-n", "2").splitlines() == lines[:2]


def test_json_has_the_entries(history: InProcess) -> None:
    tag, third, *_, made = history.json("audit")
    assert set(tag) == {"number", "time", "who", "action", "subject", "old", "new", "detail", "hash"}
    assert (tag["number"], tag["action"], tag["subject"], tag["old"]) == (5, "tag", "refs/tags/v1.0", None)
    assert tag["new"] == third["old"]
    assert made["action"] == "init"


def test_a_whole_log_is_ok_and_its_head_is_said(history: InProcess) -> None:
    head = history.json("audit")[0]["hash"]
    assert history.ok("audit", "--check") == f"ok: 5 entries, head {head}\n"
    report = history.json("audit", "--check", "--head", head)
    assert report == {"ok": True, "entries": 5, "head": head, "errors": [], "notes": []}


def test_a_changed_log_exits_with_9_and_names_the_entry(history: InProcess) -> None:
    path = history.directory / ".castore" / "audit"
    path.write_text(path.read_text().replace("commit 2", "commit 9"))
    done = history.run("audit", "--check")
    assert done.returncode == 9
    assert done.stdout.startswith("error: entry 3 was changed, or what stands before it: its hash is wrong\n")
    assert history.run("audit", "--check", "--json").returncode == 9


def test_options_that_do_not_go_together(history: InProcess) -> None:
    assert "--head goes with --check" in history.refused(2, "audit", "--head", "0" * 64)
    assert "leave out -n" in history.refused(2, "audit", "--check", "-n", "3")
    assert "no hash of an entry" in history.refused(2, "audit", "--check", "--head", "abc")
