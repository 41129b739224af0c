"""Laws of where repack places deltas, whatever the store's records were before and whichever deltas pay."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from castore.maintenance.repacking.placement import Records, Track

SPAN = 6


@dataclass
class Model:
    """A store: columns of chunks, newest first, and what stands on what. never: chunks to which no delta pays."""

    columns: list[list[bytes]]
    bases: dict[bytes, tuple[bytes, ...]]
    most: dict[bytes, int]
    derived: set[bytes]
    copies: set[bytes]
    never: set[bytes]
    resting: set[bytes] = field(default_factory=set)

    def repack(self) -> int:
        """Place everything; after each publication no circle is there. Returns how many records were changed."""
        records = Records(dict(self.bases), self.resting, set(), dict(self.most))
        records.fix(
            [one for one in self.derived if len(self.bases.get(one, ())) > 1],
            [one for one in self.copies if len(self.bases.get(one, ())) == 1],
        )
        before = deepest(self.bases)
        changed = 0
        for column in self.columns:
            track = Track(column, records, SPAN)
            for at, chunk in enumerate(column):
                choice = track.choose(at)
                if choice is None:
                    continue
                base = choice.base
                if choice.changes:
                    changed += 1
                    if base is not None and chunk in self.never:
                        self.resting.add(chunk)
                        base = None
                    self.bases.pop(chunk, None)
                    if base is not None:
                        self.bases[chunk] = (base,)
                    self.derived.discard(chunk)
                    self.copies.discard(chunk)
                track.settle(at, base)
                assert deepest(self.bases) <= before + max(records.most.values(), default=0)
        self.fixed = records.fixed
        return changed


def deepest(bases: dict[bytes, tuple[bytes, ...]]) -> int:
    return max((depth(one, bases) for one in bases), default=0)


def depth(chunk: bytes, bases: dict[bytes, tuple[bytes, ...]], above: int = 0) -> int:
    """Fails where bases form a circle."""
    assert above <= len(bases), "a circle"
    return 1 + max(depth(base, bases, above + 1) for base in bases[chunk]) if bases.get(chunk) else 0


@st.composite
def models(draw: st.DrawFn) -> Model:
    count, versions = draw(st.integers(1, 3)), draw(st.integers(1, 9))
    everything = [[f"{c}.{v}".encode() for v in range(versions)] for c in range(count)]
    bases: dict[bytes, tuple[bytes, ...]] = {}
    derived: set[bytes] = set()
    copies: set[bytes] = set()
    order = [everything[c][v] for v in reversed(range(versions)) for c in range(count)]
    if draw(st.booleans()):
        order = draw(st.permutations(order))  # as after repacks, forks and collections
    for number, chunk in enumerate(order):
        others = order[:number]
        own = [one for one in others if one[:2] == chunk[:2]]
        kind = draw(st.sampled_from(["alone", "delta", "delta", "derived", "copy", "foreign"]))
        if kind == "delta" and own:
            bases[chunk] = (draw(st.sampled_from(own[-4:])),)
        elif kind == "derived" and len(others) > 1:
            bases[chunk] = tuple(draw(st.lists(st.sampled_from(others), min_size=2, max_size=3, unique=True)))
            derived.add(chunk)
        elif kind in ("copy", "foreign") and others:
            bases[chunk] = (draw(st.sampled_from(others)),)
            if kind == "copy":
                copies.add(chunk)
    kept = {one for one in order if draw(st.integers(0, 4))}
    columns = [[one for one in column if one in kept] for column in everything]
    most = {one: draw(st.integers(0, 4)) for one in kept}
    for column in columns:
        most.update(dict.fromkeys(column[:1], 0))
    never = {one for one in kept if not draw(st.integers(0, 5))}
    resting = {one for one in never if one not in bases and draw(st.booleans())}
    return Model([column for column in columns if column], bases, most, derived, copies, never, resting)


@settings(max_examples=400)
@given(models())
def test_every_chunk_lies_within_its_bound_and_stands_on_what_is_kept(model: Model) -> None:
    model.repack()
    for chunk, most in model.most.items():
        allowed = max(most, 1) if chunk in model.fixed or foreign(model, chunk) else most
        assert depth(chunk, model.bases) <= allowed
        assert all(base in model.most for base in model.bases.get(chunk, ()))


def foreign(model: Model, chunk: bytes) -> bool:
    """Whether a chunk stands on one of another column, which stands alone."""
    bases = model.bases.get(chunk, ())
    return len(bases) == 1 and bases[0][:2] != chunk[:2] and bases[0] not in model.bases


@settings(max_examples=400)
@given(models())
def test_a_second_repack_changes_nothing(model: Model) -> None:
    model.repack()
    before = dict(model.bases)
    assert model.repack() == 0
    assert model.bases == before


@settings(max_examples=400)
@given(models(), st.integers(1, 4), st.booleans())
def test_little_is_placed_anew_when_newer_chunks_come(model: Model, count: int, on_newest: bool) -> None:
    model.repack()
    for number, column in enumerate(model.columns):
        head = column[0]
        for more in range(count):
            new = f"{number}+{more}".encode()
            model.bases[new] = (column[0] if on_newest else head,)
            model.most[column[0]], model.most[new] = max(model.most[column[0]], 4), 0
            column.insert(0, new)
    changed = model.repack()
    assert changed <= 2 * len(model.columns) * (count + 1)
    assert model.repack() == 0


def test_the_newest_stands_alone_and_chains_of_neighbours_lead_to_it() -> None:
    ids = [bytes([n]) for n in range(10)]
    most = dict.fromkeys(ids, 3) | {ids[0]: 0}
    oldest = ids[-1]
    model = Model([ids], dict.fromkeys(ids[:-1], (oldest,)), most, set(), set(), set())
    model.repack()
    assert [model.bases.get(one, (b"-",))[0] for one in ids[:4]] == [b"-", *ids[:3]]
    assert depth(ids[3], model.bases) == depth(ids[4], model.bases) == 3
    assert model.bases[ids[4]] == (ids[2],)  # as deep as it may be, it shares the base of its neighbour
    assert [n for n, one in enumerate(ids) if one not in model.bases] == [0, SPAN + 1]


def test_a_chunk_that_can_not_be_read_carries_nothing() -> None:
    ids = [bytes([n]) for n in range(3)]
    track = Track(ids, Records({}, most=dict.fromkeys(ids, 2)), SPAN)
    track.settle(0, None)
    track.settle(1, ids[0])
    track.drop(ids[1])
    choice = track.choose(2)
    assert choice is not None and choice.base == ids[0]
