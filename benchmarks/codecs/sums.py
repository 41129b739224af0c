"""What the rows come to: sizes and speeds over whole states, each with its target."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.codecs.castore_codec import APART, BY_ITSELF, REPACK
from benchmarks.codecs.measure import Row
from benchmarks.codecs.streams import ROLES, Run
from benchmarks.results import Figure

SIZES, SPEEDS = "Sizes, castore against its peers", "Speeds"
FAR = ("fp32-10", "fp32-50", "fp32-100")
FAST = 0.3e9  # bytes a second of encoding on one thread, from which on a peer is one to beat with a full state
STATE = ROLES["fp32"]


@dataclass(frozen=True, slots=True)
class Total:
    """One codec over several streams."""

    raw: int
    coded: int
    encode_s: tuple[float, float]
    decode_s: tuple[float, float]

    @property
    def encode_rate(self) -> float:
        return self.raw / self.encode_s[0]

    @property
    def decode_rate(self) -> float:
        return self.raw / self.decode_s[0]


class Table:
    """The rows, by codec, over chosen streams."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = rows

    def of(self, pairs: Sequence[str], roles: Sequence[str]) -> Table:
        return Table([row for row in self._rows if row.pair in pairs and row.role in roles])

    def has(self, pairs: Sequence[str], roles: Sequence[str]) -> bool:
        """Whether every one of these streams was measured."""
        found = {(row.pair, row.role) for row in self._rows}
        return found.issuperset((pair, role) for pair in pairs for role in roles)

    def total(self, codec: str) -> Total | None:
        rows = [row for row in self._rows if row.codec == codec]
        if not rows:
            return None
        encode = (sum(row.encode_s[0] for row in rows), sum(row.encode_s[1] for row in rows))
        decode = (sum(row.decode_s[0] for row in rows), sum(row.decode_s[1] for row in rows))
        return Total(sum(row.raw_bytes for row in rows), sum(row.coded_bytes for row in rows), encode, decode)

    def peers(self) -> dict[str, Total]:
        """castore's rivals: neither itself nor what is there for comparison only."""
        names = dict.fromkeys(row.codec for row in self._rows if row.codec != "castore" and not row.reference)
        return {name: total for name in names if (total := self.total(name))}

    def oracle(self) -> int:
        """Bytes if every stream were coded by the peer that is best at it."""
        best: dict[tuple[str, str], int] = {}
        for row in self._rows:
            if row.codec != "castore" and not row.reference:
                key = (row.pair, row.role)
                best[key] = min(row.coded_bytes, best.get(key, row.coded_bytes))
        return sum(best.values())

    def ideal(self) -> float | None:
        """What the entropy of castore's own model comes to, if that is known for each stream."""
        known = [row.ideal_bytes for row in self._rows if row.codec == "castore"]
        sizes = [one for one in known if one is not None]
        return sum(sizes) if sizes and len(sizes) == len(known) else None


def figures(rows: Sequence[Row]) -> Iterator[Figure]:
    """The figures for which all streams were measured."""
    table = Table(rows)
    yield from _sizes(table)
    yield from _speeds(table)


def _sizes(table: Table) -> Iterator[Figure]:
    bf16 = ("bf16-10", "bf16-100")
    for name, pairs, roles, target in (
        ("fp32 state, 10 to 100 steps", FAR, STATE, 0.97),
        ("fp32 weights, 10 to 100 steps", FAR, ("weights",), 0.94),
        ("bf16 weights, 10 to 100 steps", bf16, ("weights",), 0.78),
    ):
        if table.has(pairs, roles):
            part = table.of(pairs, roles)
            if roles == STATE:
                yield from _single(name, part)
                yield from _single(f"{name}, repacked", part, REPACK)
            yield from _oracle(name, part, target)
            if pairs == FAR:
                yield from _oracle(f"{name}, repacked", part, target, REPACK)
            if pairs == bf16:
                yield from _oracle(f"{name}, as if there were no masters", part, None, BY_ITSELF)
    targets: Mapping[Run, float | None] = {"fp32": 0.40, "bf16": None, "sgd": None}
    for run, target_of_raw in targets.items():
        if table.has([f"{run}-1"], ROLES[run]):
            part = table.of([f"{run}-1"], ROLES[run])
            yield from _fraction(f"{run} state, every step: coded / raw", part, target_of_raw)
            yield from _oracle(f"{run} state, every step", part, None)


def _single(name: str, part: Table, codec: str = "castore") -> Iterator[Figure]:
    castore = part.total(codec)
    peers = part.peers()
    fast = {peer: total for peer, total in peers.items() if total.encode_rate >= FAST}
    if castore and peers:
        against = {peer: castore.coded / total.coded for peer, total in (fast or peers).items()}
        rates = ", ".join(f"{peer} {total.encode_rate / 1e9:.2f}" for peer, total in peers.items())
        counted = "those that encode at 0.3 GB/s or more" if fast else "none encodes at 0.3 GB/s here, so all of them"
        note = f"{counted}; GB/s: {rates}"
        title = f"{name}: castore / best single peer"
        yield Figure(SIZES, title, max(against.values()), "", 0.94, note=note, rivals=tuple(against.items()))


def _oracle(name: str, part: Table, target: float | None, codec: str = "castore") -> Iterator[Figure]:
    castore, oracle = part.total(codec), part.oracle()
    if castore and oracle:
        against = tuple((peer, castore.coded / total.coded) for peer, total in part.peers().items())
        ideal = part.ideal() if codec == "castore" else None
        note = f"ratio {castore.raw / castore.coded:.3f}, of the oracle {castore.raw / oracle:.3f}"
        note += f", of castore's model's entropy {castore.raw / ideal:.3f}" if ideal else ""
        title = f"{name}: castore / best peer of each stream"
        yield Figure(SIZES, title, castore.coded / oracle, "", target, note=note, rivals=against)


def _fraction(name: str, part: Table, target: float | None) -> Iterator[Figure]:
    if castore := part.total("castore"):
        rivals = tuple((peer, total.coded / total.raw) for peer, total in part.peers().items())
        yield Figure(SIZES, name, castore.coded / castore.raw, "", target, rivals=rivals)


def _speeds(table: Table) -> Iterator[Figure]:
    if table.has(FAR, ("weights",)):
        yield from _against_yardstick(table.of(FAR, ("weights",)))
    if table.has(FAR, STATE):
        part = table.of(FAR, STATE)
        yield from _against_tensorx("fp32 state, 10 to 100 steps", part, 3.0)
        yield from _scaling("fp32 state, 10 to 100 steps", part)
    bf16 = ("bf16-10", "bf16-100")
    if table.has(bf16, ("weights",)):
        yield from _against_tensorx("bf16 weights, 10 to 100 steps", table.of(bf16, ("weights",)), 3.0)


def _scaling(name: str, part: Table) -> Iterator[Figure]:
    """Two threads against one, and two processes, which share nothing but the machine: what that allows."""
    castore, apart = part.total("castore"), part.total(APART)
    if castore:
        for title in ("encode", "decode"):
            one, two = castore.encode_s if title == "encode" else castore.decode_s
            note = ""
            if apart:
                single, both = apart.encode_s if title == "encode" else apart.decode_s
                note = f"two processes {single / both:.2f} x"
            yield Figure(SPEEDS, f"{name}: {title}, two threads / one", one / two, "x", 1.8, "at least", note)


def _against_yardstick(part: Table) -> Iterator[Figure]:
    castore, alone, yardstick = part.total("castore"), part.total("castore alone"), part.total("yardstick")
    if not (castore and yardstick):
        return
    name = "fp32 weights, 10 to 100 steps"
    sizes = f"ratio {castore.raw / castore.coded:.4f} and {yardstick.raw / yardstick.coded:.4f}"
    yield Figure(SPEEDS, f"{name}: ratio / yardstick's", yardstick.coded / castore.coded, "x", 1.0, "at least", sizes)
    for title, ours, its, target in (
        ("encode", castore.encode_rate, yardstick.encode_rate, 1.1),
        ("decode", castore.decode_rate, yardstick.decode_rate, 1.4),
        *((("encode without a base", alone.encode_rate, yardstick.encode_rate, 1.5),) if alone else ()),
        *((("decode without a base", alone.decode_rate, yardstick.decode_rate, 1.5),) if alone else ()),
    ):
        note = f"{ours / 1e9:.2f} and {its / 1e9:.2f} GB/s"
        yield Figure(SPEEDS, f"{name}: {title}, castore / yardstick", ours / its, "x", target, "at least", note)


def _against_tensorx(name: str, part: Table, target: float) -> Iterator[Figure]:
    castore, tensorx = part.total("castore"), part.total("TensorX")
    if castore and tensorx:
        for title, ours, its, wanted in (
            ("encode", castore.encode_rate, tensorx.encode_rate, target),
            ("decode", castore.decode_rate, tensorx.decode_rate, None),
        ):
            note = f"{ours / 1e9:.2f} and {its / 1e9:.2f} GB/s"
            yield Figure(SPEEDS, f"{name}: {title}, castore / TensorX", ours / its, "x", wanted, "at least", note)
