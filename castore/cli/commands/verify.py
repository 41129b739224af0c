"""castore verify"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from castore.cli.account_records import signature_record
from castore.cli.output import green, json_option, print_json, printable, red, short, yellow
from castore.cli.session import Session, pass_session
from castore.errors import SignatureError

if TYPE_CHECKING:
    from castore.operations.signatures import Checked

EPILOG = """\b
Examples:
  castore verify --signatures v1.0 --allowed-signers signers
  castore verify --signatures --all
"""


@click.command("verify", epilog=EPILOG)
@click.argument("rev", required=False)
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
    signatures: bool,
    every: bool,
    allowed: Path | None,
    as_json: bool,
) -> None:
    """Verify the signatures of the commit REV (HEAD unless you name another), and of the tag if REV is one.

    Exits with 13 unless REV has a good signature (a tag one of its own) and none is bad; with --all, if a signature is
    bad, or what is signed is signed by unknown keys alone.
    """
    if not signatures:
        raise click.UsageError("say what to verify: --signatures")
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
