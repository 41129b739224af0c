"""Texts of a store that would steer a terminal: no command prints one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import castore
from castore.objects import codec, nodes
from castore.objects.commit import ComponentStats
from tests.cli.shell import InProcess
from tests.security.forged import PLAIN, file_of, forge

STEERING = "\x1b]0;owned\x07\x1b[2J\x9b31m\r\x08\u202e\u2028"
COMMANDS = [
    *(
        ["log"],
        ["log", "--graph"],
        ["log", "--all"],
        ["log", "--json"],
        ["show", "evil"],
        ["show", "evil", "--tensors"],
    ),
    *(
        ["show", "evil", "--env"],
        ["show", "evil", "--json", "--tensors"],
        ["show", "files", "--tensors"],
        ["branch"],
        ["tag"],
    ),
    *(["diff", "main", "evil"], ["diff", "--env", "main", "evil"], ["diff", "main", "files"], ["stats"], ["reflog"]),
    *(
        ["reflog", "evil"],
        ["audit"],
        ["audit", "--check"],
        ["why", "evil"],
        ["tier", "evil"],
        ["card", "evil"],
        ["metrics"],
    ),
    *(["prune", "--dry-run", "--keep-last", "1"], ["gc", "--dry-run"], ["fsck"], ["checkout", "files", "-o", "out"]),
    *(
        ["checkout", "evil", "-o", "o.pt"],
        ["checkout", "evil", "-o", "o.safetensors"],
        ["show", "evil", "--only", STEERING],
    ),
    *(
        ["log", STEERING],
        ["verify", "--signatures", "evil"],
        ["-C", STEERING, "log"],
        ["mirror"],
        ["maintain", "--dry-run"],
    ),
]


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> InProcess:
    """A store in which every text of its is hostile."""
    root = tmp_path_factory.mktemp("terminal")
    with castore.open(root, create=True) as store:
        store.commit({"w": torch.ones(4)}, message=STEERING, metrics={STEERING: 1.0}, meta={STEERING: STEERING})
        said = {STEERING: STEERING}
        commit = replace(
            PLAIN, message=f"{STEERING}\n{STEERING}", metrics={STEERING: 2.0}, author=STEERING, environment=said,
            meta=said | {"owner": STEERING, "left-out": STEERING}, tier=STEERING,
            stats=codec.commit_stats({STEERING: ComponentStats(1, 1, 1, 1, 1)}),
        )  # fmt: skip
        entry = nodes.Tensor("tensor", "uint8", (4,), chunks=store._repo.hash.digest(b"abcd"))
        items: list[tuple[nodes.Node, nodes.Node]] = [
            (nodes.Value(STEERING), entry),
            (nodes.Value(STEERING + "x"), nodes.Value(STEERING)),
        ]
        forge(store, nodes.Map("dict", items), [b"abcd"], "evil", commit)
        file = file_of(store, b"abcd")
        file.note = STEERING
        forge(
            store,
            nodes.Directory({STEERING: file, "x": nodes.File(4, STEERING, file.segments)}),
            [b"abcd"],
            "files",
            commit,
        )
        for name in ("audit", "events", "mirrors", "dropped", "pins", "tiers", "verified"):
            with (store.path / name).open("ab") as appended:
                appended.write(STEERING.encode() + b"\n")
        with (store.path / "logs/refs/heads/evil").open("wb") as log:
            line = f"{'0' * 32} {store.branches()['evil']} {STEERING} 1.000000 +0000\t{STEERING}\n"
            log.write(line.encode() + line.replace(STEERING, "\\u001b[2J").encode())
    return InProcess(root)


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda one: ascii(" ".join(one))[:40])
def test_nothing_that_steers_a_terminal_is_printed(shell: InProcess, arguments: list[str]) -> None:
    done = shell.run(*arguments)
    for text in (done.stdout, done.stderr):
        bad = {char for char in text if char != "\n" and not char.isprintable()}
        assert not bad, f"printed {bad!a} in {text!a}"
    assert "Traceback" not in done.stderr and "internal error" not in done.stderr


def test_what_is_printed_stands_for_what_is_there(shell: InProcess) -> None:
    assert "\\x1b]0;owned\\x07" in shell.ok("log", "evil")
    assert Path(shell.directory / ".castore").is_dir()
