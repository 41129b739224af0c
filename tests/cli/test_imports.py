"""What is not used is not loaded: history answers without torch, numba or NumPy, and help without any command."""

from __future__ import annotations

import pytest

from tests.cli.shell import InProcess

HEAVY = {"torch", "numba", "numpy", "rich", "safetensors", "blake3", "pyfastcdc"}

PROBE = """
import contextlib, io, sys
if len(sys.argv) > 1:
    from castore.cli.main import main
    with contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO())):
        assert main(sys.argv[1:]) == 0
else:
    import castore
print("\\n".join(sys.modules))
"""


def loaded(shell: InProcess, *arguments: str) -> set[str]:
    return set(shell.process.ok(*arguments, program=("-c", PROBE)).split())


def test_importing_castore_loads_nothing_heavy(shell: InProcess) -> None:
    assert loaded(shell) & HEAVY == set()


@pytest.mark.parametrize(
    "command",
    [
        ["log"],
        ["log", "--json"],
        ["log", "--all", "--graph"],
        ["show", "main~1"],
        ["show", "v1.0", "--json"],
        ["branch"],
        ["branch", "exp1", "main~1"],
        ["tag"],
        ["switch", "-c", "exp2"],
        ["reflog"],
        ["reflog", "expire", "--expire=30.days", "--all"],
        ["stats"],
        ["stats", "--commits"],
        ["prune", "--keep-last", "1"],
        ["pin", "main~1"],
        ["tier"],
        ["tier", "main~1", "archive", "--json"],
        ["mirror"],
        ["show", "main~1", "--env"],
        ["diff", "main~1", "main", "--env"],
        ["card"],
        ["metrics"],
        ["metrics", "--json"],
        ["maintain", "--dry-run"],
    ],
    ids=" ".join,
)
def test_a_history_command_loads_nothing_heavy(history: InProcess, command: list[str]) -> None:
    assert loaded(history, *command) & HEAVY == set()


def test_help_imports_no_command_and_no_store(shell: InProcess) -> None:
    modules = loaded(shell, "--help")
    assert not {name for name in modules if name.startswith(("castore.cli.commands", "castore.store"))}


def test_a_command_imports_no_other_command(history: InProcess) -> None:
    modules = {name for name in loaded(history, "log") if name.startswith("castore.cli.commands.")}
    assert modules == {"castore.cli.commands.log"}
