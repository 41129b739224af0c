"""castore commit"""

from __future__ import annotations

import time
from pathlib import Path

import click

from castore.cli.options import key_option, number_pairs, read_table, text_pairs
from castore.cli.output import first_line, json_option, print_json, printable, short, yellow
from castore.cli.session import Session, pass_session
from castore.objects.commit import LEFT_OUT
from castore.quantities import size

EPILOG = """\b
Examples:
  castore commit step300.pt -m "lr 3e-4" --step 300 --metric loss=2.31
  castore commit model.safetensors optimizer.pt --branch exp1 -m "warm start"
  castore commit model.safetensors --config config.json --data data/manifest.txt
  castore commit out/checkpoint-500 -m "as the Trainer left it" --meta run=17
"""


@click.command("commit", epilog=EPILOG)
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("-m", "--message", default="", help="What a person should know of this state.")
@click.option("--branch", metavar="B", help="Commit to this branch; it is created if need be.  [default: HEAD's]")
@click.option("--step", metavar="N", type=int, help="The training step; revisions find it as B:step=N.")
@click.option(
    "--metric",
    "metrics",
    metavar="K=V",
    multiple=True,
    callback=number_pairs,
    help="A number to keep beside the state; repeatable.",
)
@click.option(
    "--meta",
    metavar="K=V",
    multiple=True,
    callback=text_pairs,
    help="A note to keep beside the state; repeatable.",
)
@click.option("--tier", metavar="T", help="A tier: it says what goes in, and how long that is kept.")
@click.option(
    "--data",
    metavar="PATH|TEXT",
    help="What it was trained on: a file that lists the data (a manifest), whose hash is recorded, or a version.",
)
@click.option(
    "--config",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The configuration that it was trained with: a file of JSON or TOML, recorded by name and value.",
)
@click.option("--author", help="Who made it.  [default: you, on this machine]")
@click.option("--owner", help="Who answers for it.  [default: owner in [commit] of castore.toml, if it names one]")
@click.option("--fast", is_flag=True, help="Hash and write only, and leave coding to `castore repack`.")
@click.option("-S", "--sign", is_flag=True, help="Sign the commit with an SSH key; see docs/accountability.md.")
@key_option
@json_option
@pass_session
def command(
    session: Session,
    paths: tuple[Path, ...],
    message: str,
    branch: str | None,
    step: int | None,
    metrics: dict[str, float],
    meta: dict[str, str],
    tier: str | None,
    data: str | None,
    config: Path | None,
    author: str | None,
    owner: str | None,
    fast: bool,
    sign: bool,
    key: Path | None,
    as_json: bool,
) -> None:
    """Commit files or directories, so that checkout gives them back byte for byte.

    Tensors inside .pt and .safetensors files are stored as tensors: they share storage with every other commit, and
    what changed is stored as a delta against the parent. Any other file, and a .pt or .safetensors that cannot be
    read, is kept as plain bytes.
    """
    begin = time.perf_counter()
    run = None
    if data is not None or config is not None:
        from castore.state.provenance import Run

        run = Run(config=None if config is None else read_table(config), data=data)
    with session.store() as store:
        commit = store.commit_files(
            paths,
            branch=branch,
            message=message,
            step=step,
            metrics=metrics,
            meta=meta,
            tier=tier,
            author=author,
            owner=owner,
            sign=sign and (key or True),
            run=run,
            effort="fast" if fast else "full",
        )
        new_bytes = store.last_new_bytes
    seconds = time.perf_counter() - begin
    raw_bytes = commit.stats.total.raw_bytes
    if as_json:
        answer = {"id": commit.id, "raw_bytes": raw_bytes, "new_bytes": new_bytes, "seconds": round(seconds, 6)}
        print_json(answer)
    else:
        if LEFT_OUT in commit.meta:
            click.echo(f"castore: note: tier {tier} leaves out {printable(commit.meta[LEFT_OUT])}", err=True)
        title = f" {first_line(message)}" if message else ""
        click.echo(f"{yellow(short(commit.id))}{title}")
        click.echo(f"{size(raw_bytes)} committed, {size(new_bytes)} added to the store, {seconds:.2f} s")
