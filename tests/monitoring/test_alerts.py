"""Alerts: a command and a webhook are told, beside whoever raises them; never of a stranger's store, by no shell."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

import castore
from castore import limits
from castore.errors import StorageError, UsageError
from castore.monitoring import alerts
from castore.monitoring.alerts import place_of
from castore.monitoring.hooks import run_command
from castore.monitoring.settings import EVENTS, alert_settings
from castore.progress import Silent
from castore.store import Store
from castore.testing import faults
from tests.cli.shell import Shell
from tests.samples import flip, packs, state

# Writes what it gets, on standard input and in the environment, to the file that is its argument.
LISTENER = (
    "import json, os, sys; told = {'body': json.load(sys.stdin), 'cwd': os.getcwd(), 'arguments': sys.argv[2:], "
    "'environment': {k: v for k, v in os.environ.items() if k.startswith('CASTORE_')}}; "
    "open(sys.argv[1], 'a').write(json.dumps(told) + '\\n')"
)


class Notes(Silent):
    """What was said."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


class Server:
    """A real HTTP server that answers with `code`, and keeps what it was sent."""

    def __init__(self, code: int) -> None:
        self.bodies: list[dict[str, object]] = []
        self.came = threading.Event()
        bodies, came = self.bodies, self.came

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.headers["Content-Type"] == "application/json"
                bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(code)
                self.end_headers()
                came.set()

            def log_message(self, *_arguments: object) -> None:
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}/hook?secret=5"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    one = Server(204)
    yield one
    one.close()


def listener(told: Path, *arguments: str) -> str:
    """The setting of a command that writes what it is told to a file."""
    return f"command = {json.dumps([sys.executable, '-c', LISTENER, str(told), *arguments])}"


def heard(told: Path) -> list[dict[str, dict[str, object]]]:
    return [json.loads(line) for line in told.read_text().splitlines()] if told.exists() else []


def with_alerts(path: Path, *lines: str, notes: Notes | None = None) -> Store:
    """A store with these lines in [alerts]."""
    castore.open(path, create=True).close()
    file = path / ".castore" / "castore.toml"
    place = f'place = "{place_of(file.parent.stat())}"'
    file.write_text(file.read_text().split("\n[alerts]")[0] + "\n[alerts]\n" + "\n".join((place, *lines)) + "\n")
    return castore.open(path, progress=notes)


def test_a_command_gets_the_event_on_its_standard_input_and_in_its_environment(tmp_path: Path) -> None:
    told = tmp_path / "told"
    with with_alerts(tmp_path, listener(told, "$(touch /tmp/never)", "; ls")) as store:
        store.repository.alerts.send("damage", "two\nlines", wait=True, commits=["3f"])
    (one,) = heard(told)
    assert one["body"] == {
        "event": "damage",
        "text": "two\nlines",
        "store": str(store.path),
        "commits": ["3f"],
        "time": one["body"]["time"],
    }
    assert one["environment"]["CASTORE_EVENT"] == "damage"
    assert one["environment"]["CASTORE_EVENT_TEXT"] == "two\nlines"
    assert one["environment"]["CASTORE_STORE"] == str(store.path)
    assert one["cwd"] == str(store.path.resolve())
    assert one["arguments"] == ["$(touch /tmp/never)", "; ls"]  # as they stand: there is no shell


def test_a_webhook_gets_the_event_by_post(tmp_path: Path, server: Server) -> None:
    notes = Notes()
    with with_alerts(tmp_path, f'webhook = "{server.address}"', notes=notes) as store:
        store.repository.alerts.send("budget", "full", wait=True, stored_bytes=7)
    assert [(one["event"], one["text"], one["stored_bytes"]) for one in server.bodies] == [("budget", "full", 7)]
    assert notes.notes == []


def test_a_commit_that_fails_raises_the_alert_and_its_own_error_and_waits_for_nobody(
    tmp_path: Path, server: Server
) -> None:
    with (
        with_alerts(tmp_path, f'webhook = "{server.address}"') as store,
        faults.inject("sync"),
        pytest.raises(StorageError, match="Input/output error"),
    ):
        store.commit(state(1))
    assert server.came.wait(60)
    assert server.bodies[0]["event"] == "failed-save"
    assert "Input/output error" in str(server.bodies[0]["text"])


def test_only_events_that_are_listed_are_told_of(tmp_path: Path) -> None:
    told = tmp_path / "told"
    with with_alerts(tmp_path, listener(told), 'events = ["damage"]') as store:
        for event in EVENTS:
            assert store.repository.alerts.send(event, "text", wait=True)
        counts = store.repository.events.tally().counts
    assert [one["body"]["event"] for one in heard(told)] == ["damage"]
    assert counts == {("alert", event): 1 for event in EVENTS}


def test_a_condition_that_lasts_is_told_of_once(tmp_path: Path) -> None:
    told = tmp_path / "told"
    with with_alerts(tmp_path, listener(told)) as store:
        send = store.repository.alerts.send
        assert send("budget", "full", wait=True, condition="500GB")
        assert not send("budget", "still full", wait=True, condition="500GB")
        assert send("budget", "full again", wait=True, condition="600GB")
    assert [one["body"]["text"] for one in heard(told)] == ["full", "full again"]


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["/no/such/program"], "could not be run: .*No such file"),
        ([sys.executable, "-c", "import sys; print('no\\nuse'); sys.exit(3)"], "failed with exit code 3: no use"),
    ],
    ids=["missing", "failing"],
)
def test_a_command_that_fails_is_said_and_counted_and_breaks_nothing(
    tmp_path: Path, command: list[str], said: str
) -> None:
    notes = Notes()
    with with_alerts(tmp_path, f"command = {json.dumps(command)}", notes=notes) as store:
        store.repository.alerts.send("damage", "text", wait=True)
        assert store.repository.events.tally().counts["failure", "alert"] == 1
    assert len(notes.notes) == 1 and re.search(said, notes.notes[0])


def test_a_webhook_that_fails_is_said_without_its_address(tmp_path: Path) -> None:
    server, notes = Server(500), Notes()
    with with_alerts(tmp_path, f'webhook = "{server.address}"', notes=notes) as store:
        store.repository.alerts.send("damage", "text", wait=True)
        server.close()
        store.repository.alerts.send("damage", "text", wait=True)
    assert "500" in notes.notes[0] and "refused" in notes.notes[1]
    assert not any("secret" in one for one in notes.notes)


def make_foreign(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a file belong to somebody else."""
    if os.geteuid() == 0:
        os.chown(path, 65534, -1)
    else:
        other = os.geteuid() + 1
        monkeypatch.setattr(os, "geteuid", lambda: other)


@pytest.mark.parametrize("name", [".", "castore.toml"])
def test_hooks_of_a_stranger_are_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    told, notes = tmp_path / "told", Notes()
    with with_alerts(tmp_path, listener(told), notes=notes) as store:
        commit = store.commit(state(1))
        (pack,) = packs(store)
        flip(pack, pack.stat().st_size // 2)
        make_foreign(store.path / name, monkeypatch)
        assert not store.fsck().ok
        with pytest.raises(castore.CorruptError):
            store.load(commit.id)
    assert heard(told) == []
    assert len(notes.notes) == 1 and "belongs to user" in notes.notes[0]


@pytest.mark.parametrize(
    ("directory", "file", "run"), [(0o770, 0o600, False), (0o710, 0o660, False), (0o700, 0o664, True)]
)
def test_hooks_are_not_run_where_others_could_have_written_them(
    tmp_path: Path, directory: int, file: int, run: bool
) -> None:
    told, notes = tmp_path / "told", Notes()
    with with_alerts(tmp_path, listener(told), notes=notes) as store:
        (store.path / "castore.toml").chmod(file)
        store.path.chmod(directory)
        store.repository.alerts.send("damage", "text", wait=True)
    assert bool(heard(told)) == run
    assert bool(notes.notes) != run


def test_hooks_of_a_store_that_was_unpacked_are_not_run_until_somebody_says_so(tmp_path: Path) -> None:
    """It belongs to who unpacked it, with all that it names."""
    told, notes = tmp_path / "told", Notes()
    with_alerts(tmp_path / "made", listener(told)).close()
    shutil.copytree(tmp_path / "made", tmp_path / "unpacked")
    file = tmp_path / "unpacked/.castore/castore.toml"
    with castore.open(tmp_path / "unpacked", progress=notes) as store:
        store.repository.alerts.send("damage", "text", wait=True)
        assert heard(told) == [] and len(notes.notes) == 1
        file.write_text("".join(line for line in file.read_text().splitlines(True) if not line.startswith("place")))
        store.repository.alerts.send("damage", "text", wait=True)
        assert heard(told) == []
        file.write_text(f"{file.read_text()}{notes.notes[1].split('[alerts]: ')[1]}\n")
        store.repository.alerts.send("damage", "text", wait=True)
    assert len(heard(told)) == 1


def test_a_link_in_place_of_castore_toml_is_not_followed(tmp_path: Path) -> None:
    told, notes = tmp_path / "told", Notes()
    with with_alerts(tmp_path, listener(told), notes=notes) as store:
        (store.path / "castore.toml").rename(tmp_path / "elsewhere.toml")
        (store.path / "castore.toml").symlink_to(tmp_path / "elsewhere.toml")
        store.repository.alerts.send("damage", "text", wait=True)
    assert heard(told) == [] and "no alert is sent" in notes.notes[0]


def test_reading_runs_no_hook(tmp_path: Path) -> None:
    told = tmp_path / "told"
    with with_alerts(tmp_path, listener(told), 'no_commit_for = "1s"') as store:
        store.commit(state(1))
        flip(packs(store)[0], packs(store)[0].stat().st_size // 2)
    shell = Shell(tmp_path)
    for arguments in (
        ["log"],
        ["show"],
        ["stats"],
        ["reflog"],
        ["checkout", "main", "-o", "out.pt"],
        ["gc", "--dry-run"],
    ):
        shell.run(*arguments)
    assert heard(told) == []


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"comand": ["x"]}, "no setting 'comand'; there are: command, webhook"),
        ({"command": "rm -rf"}, "command takes an array of texts"),
        ({"command": [""]}, "command takes an array"),
        ({"webhook": "file:///etc/passwd"}, "webhook takes an address"),
        ({"webhook": "https://[x"}, "webhook takes an address"),
        ({"webhook": 5}, "webhook takes an address"),
        ({"events": ["damages"]}, "no event 'damages'; there are: failed-save"),
        ({"no_commit_for": "soon"}, "no_commit_for takes a span of time"),
    ],
    ids=str,
)
def test_a_setting_that_cannot_be_meant_is_named(table: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said.replace("[", r"\[")):
        alert_settings(table)


def test_a_wrong_setting_is_said_and_does_not_hide_what_the_alert_is_of(tmp_path: Path) -> None:
    notes = Notes()
    with (
        with_alerts(tmp_path, "comand = 5", notes=notes) as store,
        faults.inject("sync"),
        pytest.raises(StorageError),
    ):
        store.commit(state(1))
    assert len(notes.notes) == 1 and "no setting 'comand'" in notes.notes[0]


def test_a_command_that_takes_too_long_is_ended_with_all_that_it_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HOOK_TIMEOUT_S", 0.2)
    told = {"store": str(tmp_path), "event": "damage", "text": "text"}
    (said,) = run_command(["sh", "-c", "sleep 1000 & wait"], "{}", told)
    assert "was ended" in said


def test_of_a_stranger_without_hooks_there_is_nothing_to_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notes = Notes()
    with with_alerts(tmp_path, notes=notes) as store:
        make_foreign(store.path, monkeypatch)
        store.repository.alerts.send("damage", "text", wait=True)
    assert notes.notes == []


def test_the_owner_is_asked_for_through_the_directory_that_is_read(tmp_path: Path) -> None:
    with with_alerts(tmp_path, 'command = ["notify"]') as store:
        table, objection = alerts.read_table(store.path)
    assert (table["command"], objection) == (["notify"], "")
