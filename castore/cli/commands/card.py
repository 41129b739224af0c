"""castore card"""

from __future__ import annotations

from pathlib import Path

import click

from castore.cli.options import text_or_file
from castore.cli.output import json_option, print_json
from castore.cli.session import Session, pass_session

EPILOG = """\b
Examples:
  castore card
  castore card v1.0 -o MODEL_CARD.md --intended-use "English news" --caveats @caveats.md
"""


@click.command("card", epilog=EPILOG)
@click.argument("rev", required=False, default="HEAD")
@click.option("-o", "--out", metavar="FILE", type=click.Path(path_type=Path), help="Write it there.  [default: stdout]")
@click.option("--force", is_flag=True, help="Overwrite FILE.")
@click.option(
    "--intended-use",
    metavar="TEXT|@FILE",
    callback=text_or_file,
    help="What it is for.  [default: the commit's note intended-use]",
)
@click.option(
    "--caveats",
    metavar="TEXT|@FILE",
    callback=text_or_file,
    help="What to beware of.  [default: the commit's note caveats]",
)
@click.option("--metric", "metrics", metavar="NAME", multiple=True, help="A metric to draw; repeatable.  [default: 3]")
@json_option
@pass_session
def command(
    session: Session,
    rev: str,
    out: Path | None,
    force: bool,
    intended_use: str | None,
    caveats: str | None,
    metrics: tuple[str, ...],
    as_json: bool,
) -> None:
    """Write a page in Markdown about the commit REV (HEAD unless you name another), in the manner of a model card: what
    it is for, where it comes from, its metrics with their curves, what produced it, and how to restore it.
    """
    with session.store() as store:
        commit_id = store.resolve(rev)
        text = store.card(commit_id, intended_use, caveats, metrics)
    if out is not None:
        from castore.state.files.target import OutputFile

        with OutputFile.at(out, force) as target:
            target.write(text.encode())
    if as_json:
        print_json({"commit": commit_id, "file": None if out is None else str(out), "markdown": text})
    elif out is None:
        click.echo(text, nl=False)
