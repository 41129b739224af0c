"""The table of commands. A command is one file in `commands/` and one line here.

The texts stand here, so that `castore --help` imports no command, and running one imports no other.
"""

from __future__ import annotations

import importlib
import keyword

import click

COMMANDS = {
    "init": "Create an empty store.",
    "commit": "Commit files or directories.",
    "import": "Commit the checkpoints that a torch.save loop left, oldest first.",
    "log": "List commits, newest first.",
    "show": "Show one commit: metrics, sizes, environment, tensors.",
    "card": "Write a page about a commit, in the manner of a model card.",
    "diff": "Compare two commits, tensor by tensor.",
    "checkout": "Write the state of a commit to files.",
    "branch": "List, create, move or delete branches.",
    "switch": "Make another branch the current one.",
    "tag": "List, create or delete tags.",
    "reflog": "Show what a ref pointed to before; expire old entries.",
    "stats": "Show what the store holds, and what that takes.",
    "prune": "Drop states by rules; commits stay.",
    "why": "Show which rules keep the state of a commit, or drop it.",
    "pin": "Pin a commit, so that its state is never dropped; list the pins.",
    "unpin": "Let go of a pinned commit.",
    "tier": "List tiers; show which one a commit is of, or move it to another.",
    "mirror": "Copy the commits of tiers that name a second directory to it.",
    "gc": "Remove what no ref or reflog leads to, and dropped states.",
    "sign": "Sign a commit with an SSH key.",
    "verify": "Restore a commit and check it; replay steps; verify signatures.",
    "audit": "Show who changed the store, when and how; check that log.",
    "repack": "Make new states fast to load, and old ones small.",
    "fsck": "Check checksums, links and bases; repair.",
    "salvage": "Bring what is readable of a badly damaged store into a new one.",
    "scrub": "Read every byte and check it, from where the last scrub stopped.",
    "maintain": "Run what is due: mirror, prune, repack, gc, verify, scrub.",
    "metrics": "Print metrics for Prometheus, or as JSON.",
}


class CommandGroup(click.Group):
    """The top-level command: imports the module of a command only when that command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = f"{cmd_name}_" if keyword.iskeyword(cmd_name) else cmd_name
        command = importlib.import_module(f"castore.cli.commands.{module}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))
