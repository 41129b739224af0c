"""Commits as canonical CBOR objects."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

from castore import limits
from castore.errors import CorruptError
from castore.objects.canonical import dumps, loads
from castore.objects.commit import Commit, CommitStats, ComponentStats


def encode(commit: Commit) -> bytes:
    """A commit's object: all fields but its id, which is the object's hash."""
    offset = commit.time.utcoffset() or timedelta()
    return dumps(
        {
            "tree": bytes.fromhex(commit.tree),
            "parents": [bytes.fromhex(parent) for parent in commit.parents],
            "message": commit.message,
            "step": commit.step,
            "metrics": {name: struct.pack("<d", value) for name, value in commit.metrics.items()},
            "author": commit.author,
            "time": [_microseconds(commit.time), int(offset.total_seconds()) // 60],
            "environment": dict(commit.environment),
            "meta": dict(commit.meta),
            "tier": commit.tier,
            "stats": {name: _numbers(stats) for name, stats in commit.stats.components.items()},
            **({} if commit.provenance is None else {"provenance": bytes.fromhex(commit.provenance)}),
        }
    )


def _microseconds(time: datetime) -> int:
    return (time - datetime(1970, 1, 1, tzinfo=timezone.utc)) // timedelta(microseconds=1)


def _numbers(s: ComponentStats) -> list[int]:
    return [s.raw_bytes, s.new_raw_bytes, s.stored_bytes, s.delta_bytes, s.tensors]


def decode(commit_id: str, data: bytes) -> Commit:
    """Read a commit's object, every field checked. Raises CorruptError."""
    what = f"commit {commit_id}"
    value = loads(data, what)
    try:
        return _commit(commit_id, value)
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError, struct.error) as error:
        raise CorruptError(f"{what} is malformed: {error!r}; run `castore fsck`") from error


def _commit(commit_id: str, value: dict[str, Any]) -> Commit:
    id_size = len(commit_id) // 2
    microseconds, offset_minutes = map(_whole, value["time"])
    zone = timezone(timedelta(minutes=offset_minutes))
    time = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(microseconds=microseconds)
    parents = value["parents"]
    if type(parents) is not list or len(parents) > limits.MAX_PARENTS:
        raise ValueError("parents")
    return Commit(
        id=commit_id,
        tree=_id(value["tree"], id_size),
        parents=tuple(_id(parent, id_size) for parent in parents),
        message=_text(value["message"]),
        step=None if value["step"] is None else _whole(value["step"]),
        metrics={_text(name): struct.unpack("<d", number)[0] for name, number in value["metrics"].items()},
        author=_text(value["author"]),
        time=time.astimezone(zone),
        environment=_texts(value["environment"]),
        meta=_texts(value["meta"]),
        tier=None if value["tier"] is None else _text(value["tier"]),
        stats=commit_stats(
            {_text(name): ComponentStats(*map(_whole, numbers)) for name, numbers in value["stats"].items()}
        ),
        provenance=_id(value["provenance"], id_size) if "provenance" in value else None,
    )


def _id(value: Any, size: int) -> str:
    if type(value) is not bytes or len(value) != size:
        raise TypeError(f"no id of {size} bytes")
    return value.hex()


def _whole(value: Any) -> int:
    if type(value) is not int:
        raise TypeError(f"{type(value).__name__} where a whole number belongs")
    return value


def _text(value: Any) -> str:
    if type(value) is not str:
        raise TypeError(f"{type(value).__name__} where text belongs")
    return value


def _texts(value: Any) -> Mapping[str, str]:
    return {_text(name): _text(text) for name, text in value.items()}


def commit_stats(components: Mapping[str, ComponentStats]) -> CommitStats:
    """Components and their sums."""
    columns = zip(*(_numbers(stats) for stats in components.values()), strict=True) if components else ()
    return CommitStats(ComponentStats(*map(sum, columns)), components)
