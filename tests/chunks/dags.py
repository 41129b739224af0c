"""Random records over several packs, each a delta to up to four others, in a store; and what can be decoded of them."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from hypothesis import strategies as st

from castore import codecs, dtypes, repo
from castore.chunks import pack
from castore.chunks.session import WriteSession
from castore.codecs.choice import Encoded
from tests.chunks.xor_of_bases import ID, xor_of_bases

UINT8 = dtypes.by_name("uint8")


@dataclass(frozen=True)
class Node:
    """A record to be. bases: numbers of others. in_place: by a codec of one base, where that fits."""

    bases: tuple[int, ...] = ()
    pack: int = 0
    in_place: bool = False


Dag = Sequence[Node]


SEEDS = st.integers(0, 1 << 32)


def random_dag(rng: random.Random, packs: int = 3) -> Dag:
    """Made from a seed and not drawn value by value, since most of what Hypothesis draws first has hardly any bases."""
    nodes: list[Node] = []
    for number in range(rng.randint(4, 12)):
        count = rng.choice([0, 1, 1, 2, 2, 3, 4]) if number else 0
        bases = (
            rng.choices(range(number), k=count) if rng.random() < 0.2 else rng.sample(range(number), min(count, number))
        )
        nodes.append(Node(tuple(bases), rng.randrange(packs), rng.random() < 0.5))
    return nodes


def some(rng: random.Random, numbers: Collection[int], least: int = 0) -> set[int]:
    """Any part of them."""
    return set(rng.sample(sorted(numbers), rng.randint(least, len(numbers))))


def raw_of(number: int) -> bytes:
    """The bytes of a record; lengths differ, and repeat."""
    return hashlib.shake_128(b"record %d" % number).digest(20 + number % 3 * 7)


def below(dag: Dag, numbers: Collection[int]) -> set[int]:
    """Records and all that they need."""
    found: set[int] = set()
    pending = list(numbers)
    while pending:
        number = pending.pop()
        if number not in found:
            found.add(number)
            pending.extend(dag[number].bases)
    return found


def id_of(store: repo.Repository, number: int) -> bytes:
    return store.hash.digest(raw_of(number))


def add(store: repo.Repository, session: WriteSession, dag: Dag, number: int) -> bytes:
    """Put a record into a session, as a delta to its bases, whether or not they are there."""
    raw, node = raw_of(number), dag[number]
    base_raws = [raw_of(base) for base in node.bases]
    if not node.bases:
        encoded = Encoded(codecs.RAW, raw, False)
    elif node.in_place and len(node.bases) == 1 and len(base_raws[0]) == len(raw):
        encoded = Encoded(codecs.XOR_PLANES, codecs.by_id(codecs.XOR_PLANES).encode(raw, UINT8, base_raws[0]), True)
    else:
        encoded = Encoded(ID, xor_of_bases(raw, base_raws), True)
    bases = tuple(id_of(store, base) for base in node.bases)
    return session._add(id_of(store, number), bases, pack.CHUNK, UINT8, len(raw), encoded).id


def write(store: repo.Repository, dag: Dag) -> dict[int, bytes]:
    """Publish all records; returns the pack of each."""
    where: dict[int, bytes] = {}
    for wanted in sorted({node.pack for node in dag}):
        numbers = [number for number, node in enumerate(dag) if node.pack == wanted]
        with store.chunks.session() as session:
            for number in numbers:
                add(store, session, dag, number)
            session.seal()
            with store.lock.held():
                session.publish()
            (sealed,) = session._written_packs.sealed
            where |= dict.fromkeys(numbers, sealed.id)
    return where


def chunks_in_index(store: repo.Repository) -> set[bytes]:
    return {one for one, place in store.chunks.access.index.items() if place.kind == pack.CHUNK}


def assert_decode(store: repo.Repository, numbers: Collection[int]) -> None:
    for number in numbers:
        assert store.chunks.chunk(id_of(store, number)) == raw_of(number)
