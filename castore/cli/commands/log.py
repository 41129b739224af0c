"""castore log"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import click

from castore.cli.output import first_line, json_option, metric, print_json, printable, red, short, timestamp, yellow
from castore.cli.records import commit_record, verification_record
from castore.cli.refs import RefNames
from castore.cli.session import Session, pass_session
from castore.history.graph import graph_prefixes
from castore.objects.commit import Commit
from castore.quantities import size

if TYPE_CHECKING:
    from castore.history.drops import Drop

EPILOG = """\b
Examples:
  castore log                 the current branch
  castore log exp1 -n 10      the last ten commits of exp1
  castore log --all --graph   all branches and tags, with the lines of descent
  castore log --json | jq '.[] | [.step, .metrics.loss]'
"""


@click.command("log", epilog=EPILOG)
@click.argument("revs", metavar="[REV]...", nargs=-1)
@click.option("-n", "--max-count", "limit", metavar="N", type=click.IntRange(min=0), help="List at most N commits.")
@click.option("--all", "every", is_flag=True, help="List what leads to any branch or tag, or to HEAD.")
@click.option("--graph", is_flag=True, help="Draw the lines of descent beside the commits.")
@json_option
@pass_session
def command(
    session: Session, revs: tuple[str, ...], limit: int | None, every: bool, graph: bool, as_json: bool
) -> None:
    """List the commits that lead to REV (HEAD unless you name others), newest first, one on a line:
    id, time, names that point at it, step, message, metrics, the size of the state and what the commit added; and
    `dropped` or `partial` where `castore prune` dropped the state or components of it.
    """
    with session.store() as store:
        names = RefNames(store)
        wanted = list(revs) or ([] if every and names.all() else ["HEAD"])
        wanted += names.all() if every else []
        commits = store.log(wanted, limit)
        drops = store.drops()
        if as_json:
            tips = [(store.resolve(rev), names.branch_of(rev)) for rev in wanted]
            listed = with_branch(commits, tips)
            verified = store.verifications()
            print_json(
                [
                    commit_record(one, branch, names.at(one.id), drops.get(one.id))
                    | {"verified": verification_record(verified.get(one.id))}
                    for one, branch in listed
                ]
            )
        elif graph:
            print_graph(list(commits), names, drops)
        else:
            for commit in commits:
                click.echo(describe(commit, names.decoration(commit.id), drops.get(commit.id)))


def with_branch(
    commits: Iterable[Commit], tips: Sequence[tuple[str, str | None]]
) -> Iterator[tuple[Commit, str | None]]:
    """Each commit with the branch that it is listed for: of those whose line of first parents it is on, the first.

    commits: children first. tips: the commits that the list begins with, and the branch of each, if it is one's.
    """
    ranks: dict[str, int] = {}
    for rank, (tip, branch) in enumerate(tips):
        if branch is not None:
            ranks.setdefault(tip, rank)
    for commit in commits:
        own = ranks.pop(commit.id, None)
        if own is not None and commit.parents:
            ranks[commit.parents[0]] = min(own, ranks.get(commit.parents[0], own))
        yield commit, tips[own][1] if own is not None else None


def print_graph(commits: list[Commit], names: RefNames, drops: Mapping[str, Drop]) -> None:
    """The commits with their lines of descent."""
    for commit, (prefix, below) in zip(commits, graph_prefixes(commits), strict=True):
        click.echo(prefix + describe(commit, names.decoration(commit.id), drops.get(commit.id)))
        for edges in below:
            click.echo(edges)


def describe(commit: Commit, decoration: str, drop: Drop | None) -> str:
    """A commit on one line. drop: what retention dropped of it."""
    total = commit.stats.total
    parts = [
        yellow(short(commit.id)),
        timestamp(commit.time),
        decoration,
        f"step={commit.step}" if commit.step is not None else "",
        first_line(commit.message),
        " ".join(f"{printable(name)}={metric(value)}" for name, value in commit.metrics.items()),
        f"[{size(total.raw_bytes)}, +{size(total.stored_bytes)}]",
        "" if drop is None else red(drop.state),
    ]
    return " ".join(part for part in parts if part)
