"""Commits and what produced them, as CBOR."""

from __future__ import annotations

import contextlib
import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from random import Random

import cbor2

from castore.cli.commands.log import describe
from castore.cli.commands.show import print_header, print_sizes
from castore.cli.output import print_json
from castore.cli.provenance import print_provenance
from castore.cli.records import commit_record, commit_stats_record
from castore.objects import codec, provenance
from castore.objects.commit import Commit, ComponentStats
from castore.objects.provenance import Provenance
from tests.fuzz.mutations import mutated_bytes, mutated_value
from tests.fuzz.target import MIB, Target

_ID = "0f" * 16
_COLOURS = re.compile(r"\x1b\[(?:[01]|3[123])m")


def mutated_cbor(data: bytes, rng: Random) -> bytes:
    """Mostly other values in good CBOR, now and then other bytes."""
    if rng.random() < 0.2:
        return mutated_bytes(data, rng)
    try:
        value = cbor2.loads(data)
    except Exception:  # what an earlier mutation made need not be CBOR any more
        return mutated_bytes(data, rng)
    try:
        return cbor2.dumps(mutated_value(value, rng), canonical=rng.random() < 0.8)
    except (ValueError, cbor2.CBOREncodeError):  # a lone surrogate
        return mutated_bytes(data, rng)


def assert_harmless(text: str) -> None:
    """Nothing in what is printed may steer a terminal, but for our own colours."""
    plain = _COLOURS.sub("", text)
    assert all(one == "\n" or one.isprintable() for one in plain), "printed what steers a terminal"


@dataclass(frozen=True)
class CommitTarget:
    growth_bytes: int = 96 * MIB
    mapped_bytes: int = 0

    def seeds(self) -> Sequence[bytes]:
        when = datetime(2025, 1, 2, 3, 4, 5, 6, timezone(timedelta(hours=1)))
        stats = codec.commit_stats({"model": ComponentStats(8, 8, 25, 25, 1), "rest": ComponentStats(1, 2, 3, 4, 5)})
        full = Commit(
            _ID, _ID, (_ID, _ID[::-1]), "step 7\n\nmore", 7, {"loss": 2.5, "nan": float("nan")}, "ada@host", when,
            {"python": "3.12"}, {"owner": "ada", "note": "x"}, "archive", stats, _ID,
        )  # fmt: skip
        least = Commit(_ID, _ID, (), "", None, {}, "", when, {}, {}, None, codec.commit_stats({}))
        return [codec.encode(full), codec.encode(least)]

    def mutated(self, data: bytes, rng: Random) -> bytes:
        return mutated_cbor(data, rng)

    def run(self, data: bytes) -> bool:
        commit = codec.decode(_ID, data)
        again = codec.encode(commit)
        assert codec.encode(codec.decode(_ID, again)) == again
        with contextlib.redirect_stdout(io.StringIO()) as out:
            print_header(commit, "", None, None, False, None)
            print_sizes(commit.stats.components, commit.stats.total)
            print(describe(commit, "", None))
        assert_harmless(out.getvalue())
        with contextlib.redirect_stdout(io.StringIO()) as out:
            print_json([commit_record(commit, None, [], None), commit_stats_record(commit.stats)])
        json.loads(out.getvalue())
        assert_harmless(out.getvalue())
        return True


@dataclass(frozen=True)
class ProvenanceTarget:
    growth_bytes: int = 96 * MIB
    mapped_bytes: int = 0

    def seeds(self) -> Sequence[bytes]:
        return [
            provenance.encode(
                Provenance({"code": {"commit": "abc", "diff": "+ a\n- b"}, "packages": {"numpy": "2.0"}})
            ),
            provenance.encode(Provenance({})),
        ]

    def mutated(self, data: bytes, rng: Random) -> bytes:
        return mutated_cbor(data, rng)

    def run(self, data: bytes) -> bool:
        made = provenance.decode(data, "it")
        provenance.encode(made)
        with contextlib.redirect_stdout(io.StringIO()) as out:
            print_provenance(made)
        assert_harmless(out.getvalue())
        return True


def target(name: str) -> Target:
    return CommitTarget() if name == "commit" else ProvenanceTarget()
