"""`python -m benchmarks`: train the trajectories, or measure the store on them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.figures import GROUPS

RESULTS = Path(__file__).parent / "results"


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    if options.command == "print":
        from benchmarks.results import read_results

        print(read_results(options.out or RESULTS).markdown(), end="")
        return 0
    # Imported only now: a child process that measures memory imports this module, and must not get torch by it.
    from benchmarks.trajectories import KINDS, cache_folder, trajectory

    cache = cache_folder(options.cache)
    if options.command == "trajectories":
        for kind in KINDS:
            found = trajectory(kind, cache, options.quick)
            print(f"{kind}: {len(found.files)} checkpoints, {found.raw_bytes / 1e6:.0f} MB in {found.files[0].parent}")
        return 0
    from benchmarks.store import run

    rounds = options.rounds or (2 if options.quick else 5)
    # A part of the figures, or toy ones, must not take the place of a whole run's.
    out = options.out or (cache / "results" if options.only or options.quick else RESULTS)
    results = run(cache, out, options.only, rounds, options.quick)
    print(results.markdown(), end="")
    print(f"written to {out}", file=sys.stderr)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    trajectories = commands.add_parser("trajectories", help="train the models and keep their checkpoints in the cache")
    store = commands.add_parser("store", help="measure castore and its peers on the trajectories")
    show = commands.add_parser("print", help="print the table of the last run as Markdown")
    for command in (trajectories, store):
        command.add_argument("--cache", type=Path, help="default: $CASTORE_BENCH_CACHE, else ~/.cache/castore-bench")
        command.add_argument("--quick", action="store_true", help="toy sizes, to see in a minute or two that it works")
    for command in (store, show):
        command.add_argument("--out", type=Path, help="folder of the results")
    store.add_argument("--only", type=_groups, default=[], help=f"groups to run, with commas: {','.join(GROUPS)}")
    store.add_argument("--rounds", type=int, help="repetitions that a median is taken of (5, or 2 if quick)")
    return parser


def _groups(text: str) -> list[str]:
    names = [name.replace("-", "_") for name in text.split(",")]
    for name in names:
        if name not in GROUPS:
            raise argparse.ArgumentTypeError(f"there is no group {name!r}; there are {', '.join(GROUPS)}")
    return names


if __name__ == "__main__":
    sys.exit(main())
