"""castore verify"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from castore.cli.account_records import signature_record
from castore.cli.output import green, json_option, print_json, printable, red, short, yellow
from castore.cli.records import verify_record
from castore.cli.replaying import replay_of, replay_options
from castore.cli.session import Session, pass_session
from castore.cli.verification import print_report
from castore.errors import CorruptError, ReplayError, SignatureError

if TYPE_CHECKING:
    from castore.operations.signatures import Checked

EPILOG = """\b
Examples:
  castore verify
  castore verify main~5 --replay train:replay --steps 20
  castore verify v1.0 --replay train:replay --steps 5 --tolerance 1e-6
  castore verify --signatures v1.0 --allowed-signers signers
  castore verify --signatures --all
"""


@click.command("verify", epilog=EPILOG)
@click.argument("rev", required=False)
@replay_options
@click.option("--branch", metavar="B", help="Whose commits have the losses.  [default: the one that leads on from REV]")
@click.option("--signatures", is_flag=True, help="Verify who signed REV, or with --all whatever is signed.")
@click.option("--all", "every", is_flag=True, help="All tags, and all commits that a ref leads to.")
@click.option(
    "--allowed-signers",
    "allowed",
    metavar="FILE",
    type=click.Path(path_type=Path),
    envvar="CASTORE_ALLOWED_SIGNERS",
    help="Who may sign, with which keys, as ssh-keygen(1) has it: lines of NAME KIND KEY.  "
    "[default: $CASTORE_ALLOWED_SIGNERS, else allowed_signers in [signing] of castore.toml]",
)
@json_option
@pass_session
@click.pass_context
def command(
    ctx: click.Context,
    session: Session,
    rev: str | None,
    function: str | None,
    steps: int | None,
    metric: str,
    branch: str | None,
    tolerance: float | None,
    signatures: bool,
    every: bool,
    allowed: Path | None,
    as_json: bool,
) -> None:
    """Restore the commit REV (HEAD unless you name another) end to end in a fresh process, and check every tensor of
    it against the commit. With --replay, run real steps from there and compare their losses with those recorded after
    that commit. Exits with 9 if something is restored otherwise than it was committed, with 14 if a loss differs.

    With --signatures verify those of the commit instead, and of the tag if REV is one. Exits with 13 unless REV has a
    good signature (a tag one of its own) and none is bad; with --all, if a signature is bad, or what is signed is
    signed by unknown keys alone.
    """
    if signatures:
        if function is not None or steps is not None:
            raise click.UsageError("--signatures restores nothing, so there is nothing to replay; verify once more")
        verify_signatures(ctx, session, rev, every, allowed, as_json)
        return
    if every:
        raise click.UsageError("--all goes with --signatures; name a REV to restore")
    replay = replay_of(function, steps, metric, tolerance, branch)
    with session.store() as store:
        report = store.verify(rev or "HEAD", replay)
    if as_json:
        print_json(verify_record(report))
    else:
        print_report(report)
    if report.problems:
        ctx.exit(CorruptError.exit_code)
    if not report.ok:
        ctx.exit(ReplayError.exit_code)


def verify_signatures(
    ctx: click.Context, session: Session, rev: str | None, every: bool, allowed: Path | None, as_json: bool
) -> None:
    """Print what signatures are worth."""
    if every and rev is not None:
        raise click.UsageError("name a REV, or say --all")
    with session.store() as store:
        report = store.verify_signatures(None if every else rev or "HEAD", allowed)
    if as_json:
        checked = [signature_record(one) for one in report.checked]
        print_json({"ok": report.ok, "counts": report.counts, "signatures": checked})
    else:
        for one in report.checked:
            if not every or one.status != "unsigned":
                click.echo(describe(one))
        if every:
            click.echo(", ".join(f"{count} {status.replace('-', ' ')}" for status, count in report.counts.items()))
    if not report.ok:
        ctx.exit(SignatureError.exit_code)


def describe(one: Checked) -> str:
    """`good: tag v1.0 at 53a64aed8384, by ada@example.org, ED25519 key SHA256:...`."""
    status = green("good") if one.status == "good" else red(one.status.replace("-", " "))
    what = f"tag {printable(one.name)} at " if one.kind == "tag" else "commit "
    parts = [f"{status}: {what}{yellow(short(one.commit))}"]
    parts += [f"by {printable(one.signer)}"] if one.signer else []
    parts += [printable(text) for text in (one.key, one.detail) if text]
    return ", ".join(parts)
