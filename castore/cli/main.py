"""The `castore` command: runs what was asked for, and turns every failure into one line and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from castore._version import __version__
from castore.cli.output import printable
from castore.cli.registry import CommandGroup
from castore.cli.session import Session
from castore.errors import CastoreError, StorageError

INTERRUPTED = 130  # 128 + SIGINT, as shells report it
BROKEN_PIPE = 141  # 128 + SIGPIPE

EPILOG = """\b
Examples:
  castore init
  castore commit step300.pt -m "lr 3e-4" --step 300 --metric loss=2.31
  castore log --graph
  castore checkout main~2 -o restored

\b
A revision is an id or the start of one, a branch, a tag or HEAD,
then any of ~N (N commits back), ^N (the Nth parent), @{N} (where the
ref was N changes ago) and :step=N (the newest commit of that step).
"""


@click.group(cls=CommandGroup, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "-C",
    "location",
    metavar="STORE",
    type=click.Path(path_type=Path),
    envvar="CASTORE_STORE",
    help="The store: a .castore directory or the directory that contains it.  "
    "[default: $CASTORE_STORE, else the nearest .castore upward]",
)
@click.version_option(__version__, "--version", prog_name="castore", message="%(prog)s %(version)s")
@click.pass_context
def castore(ctx: click.Context, location: Path | None) -> None:
    """Keep the history of a training run the way Git keeps source code."""
    ctx.obj = Session(location)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; docs/cli.md lists the codes."""
    if "_CASTORE_COMPLETE" in os.environ:
        castore.main(prog_name="castore")
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = _run(arguments or ["--help"])
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader of a pipe went away (`castore log | head`). What Python would still flush at exit goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except (KeyboardInterrupt, click.Abort):
        return _fail("interrupted; what was committed before is unharmed", INTERRUPTED)
    except click.UsageError as error:
        help_of = error.ctx.command_path if error.ctx is not None else "castore"
        return _fail(f"{error.format_message().rstrip('.')}; see `{help_of} --help`", error.exit_code)
    except click.ClickException as error:
        return _fail(error.format_message(), error.exit_code)
    except CastoreError as error:
        return _fail(str(error), error.exit_code)
    except OSError as error:
        where = f"{error.filename}: " if error.filename is not None else ""
        return _fail(f"{where}{error.strerror or error}", StorageError.exit_code)
    except Exception as error:  # a bug: the user still gets one line
        text = (
            f"internal error: {type(error).__name__}: {error}; set CASTORE_DEBUG=1 to see where, and please report it"
        )
        return _fail(text, CastoreError.exit_code)
    return code


def _run(arguments: list[str]) -> int:
    color = False if os.environ.get("NO_COLOR") else None
    try:
        with castore.make_context("castore", arguments, color=color) as ctx:
            castore.invoke(ctx)
    except click.exceptions.Exit as done:
        return done.exit_code
    return 0


def _fail(text: str, code: int) -> int:
    if os.environ.get("CASTORE_DEBUG"):
        import traceback

        traceback.print_exc()
    click.echo(f"castore: {printable(' '.join(text.split()))}", err=True)
    return code
