"""`python -m benchmarks`: train the trajectories, and measure the store, the codecs, checkpoints beside training, or
what is left of them after kills."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from benchmarks.durability import GROUPS as DURABILITY_GROUPS
from benchmarks.figures import GROUPS
from benchmarks.overhead import GROUPS as TRAINING_GROUPS

RESULTS = Path(__file__).parent / "results"


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    if options.command == "print":
        print(_printed(options.which, options.out or RESULTS), end="")
        return 0
    # Imported only now: a child process that measures memory imports this module, and must not get torch by it.
    from benchmarks.trajectories import KINDS, cache_folder, trajectory

    cache = cache_folder(options.cache)
    if options.command == "trajectories":
        for kind in KINDS:
            found = trajectory(kind, cache, options.quick)
            print(f"{kind}: {len(found.files)} checkpoints, {found.raw_bytes / 1e6:.0f} MB in {found.files[0].parent}")
        return 0
    if options.command == "codecs":
        return _codecs(options, cache)
    if options.command == "training":
        return _training(options, cache)
    if options.command == "durability":
        return _durability(options, cache)
    from benchmarks.store import run

    # A part of the figures, or toy ones, must not take the place of a whole run's.
    out = options.out or (cache / "results" if options.only or options.quick else RESULTS)
    results = run(cache, out, options.only, options.rounds, options.quick)
    print(results.markdown(), end="")
    print(f"written to {out}", file=sys.stderr)
    return 0


def _printed(which: str, folder: Path) -> str:
    if which == "codecs":
        from benchmarks.codecs.report import read_report

        return read_report(folder).markdown()
    if which in ("training", "durability"):
        from benchmarks.overhead.report import read_markdown

        return read_markdown(folder, which)
    from benchmarks.results import read_results

    return read_results(folder).markdown()


def _codecs(options: argparse.Namespace, cache: Path) -> int:
    from benchmarks.codecs.run import run

    part = options.only or options.codecs or options.quick
    out = options.out or (cache / "results" if part else RESULTS)
    rounds = options.rounds or (2 if options.quick else 5)
    report = run(cache, out, options.only, options.codecs, rounds, options.chunks, options.quick, options.yardstick)
    print(report.markdown(), end="")
    print(f"written to {out}", file=sys.stderr)
    return 0


def _training(options: argparse.Namespace, cache: Path) -> int:
    from benchmarks.overhead.run import run

    out = options.out or (cache / "results" if options.only or options.quick or options.device != "cpu" else RESULTS)
    print(run(cache, out, options.only, options.rounds, options.quick, options.device).markdown(), end="")
    print(f"written to {out}", file=sys.stderr)
    return 0


def _durability(options: argparse.Namespace, cache: Path) -> int:
    from benchmarks.durability.run import run

    out = options.out or (cache / "results" if options.only or options.quick else RESULTS)
    print(run(cache, out, options.only, options.rounds, options.quick).markdown(), end="")
    print(f"written to {out}", file=sys.stderr)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    trajectories = commands.add_parser("trajectories", help="train the models and keep their checkpoints in the cache")
    store = commands.add_parser("store", help="measure castore and its peers on the trajectories")
    codecs = commands.add_parser("codecs", help="measure castore's chunk codecs and their peers on the trajectories")
    training = commands.add_parser("training", help="measure what checkpoints cost while a model is trained")
    durability = commands.add_parser("durability", help="kill saves, flip bits, and measure what fsync costs")
    show = commands.add_parser("print", help="print the tables of the last whole run as Markdown")
    show.add_argument("which", nargs="?", choices=("store", "codecs", "training", "durability"), default="store")
    for command in (trajectories, store, codecs, training, durability):
        command.add_argument("--cache", type=Path, help="default: $CASTORE_BENCH_CACHE, else ~/.cache/castore-bench")
        command.add_argument("--quick", action="store_true", help="toy sizes, to see in a minute or two that it works")
    for command in (store, codecs, training, durability, show):
        command.add_argument("--out", type=Path, help="folder of the results")
    grouped = ((store, GROUPS), (training, TRAINING_GROUPS), (durability, DURABILITY_GROUPS))
    for command, groups in grouped:
        text = f"groups to run, with commas: {','.join(groups)}"
        command.add_argument("--only", type=partial(_groups, known=groups), default=[], help=text)
    for command in (store, codecs):
        command.add_argument("--rounds", type=int, help="repetitions for a median (5; depth and quick: 2)")
    training.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where the trained state is (cpu)")
    training.add_argument("--rounds", type=int, help="runs of each method, in turn (3; quick: 1)")
    durability.add_argument("--rounds", type=int, help="rounds of what is timed, in turn (3; quick: 1)")
    codecs.add_argument("--only", type=_names, default=[], help="pairs or runs, with commas: fp32-10,bf16 ...")
    codecs.add_argument("--codecs", type=_names, default=[], help="with commas: castore,TensorX ...")
    codecs.add_argument("--chunks", type=int, default=32, help="chunks of 256 Ki elements of each stream (32)")
    codecs.add_argument("--yardstick", type=Path, help="the sketch of a residual coder to compare with, a .py file")
    return parser


def _names(text: str) -> list[str]:
    return text.split(",")


def _groups(text: str, known: Sequence[str]) -> list[str]:
    names = [name.replace("-", "_") for name in text.split(",")]
    for name in names:
        if name not in known:
            raise argparse.ArgumentTypeError(f"there is no group {name!r}; there are {', '.join(known)}")
    return names


if __name__ == "__main__":
    sys.exit(main())
