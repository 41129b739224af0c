"""castore.toml: what a store is, written once when it is made, and read at each open."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from castore import _fs, limits
from castore.errors import CorruptError, StoreNotFoundError, UnsupportedStoreError

FORMAT_VERSION = 1
CHECKS = "checks"  # small files have checksums
RANS = "rans"  # tokens may be coded in 64 lanes
NO_SIGNS = "no-signs"  # words of `exponents` may lie as they are, not rotated
FEATURES = frozenset({"packs-2", "provenance", CHECKS, RANS, NO_SIGNS})  # required features: what writing needs
RETENTION = "retention"  # needed once something was dropped or pinned
TIERS = "tiers"  # needed once a commit was moved to another tier
LOW_RANK = "low-rank"  # needed once repack coded differences of low rank
LOST = "lost"  # needed once parts of history were given up
KNOWN_FEATURES = FEATURES | {RETENTION, TIERS, LOW_RANK, LOST}  # all that this version understands
NAME = "castore.toml"


@dataclass(frozen=True, slots=True)
class Config:
    """A store's settings.

    features: what a program must know to use the store. hash: names chunks and objects, fixed for ever.
    chunk_elements: elements of a chunk. max_depth: deltas between a record and a standalone one, at most;
    max_depth_half: the same for floats of 2 bytes; max_depth_predicted: of a chunk that is predicted from several.
    max_span: generations that deltas reach back to the standalone one, at most. reflog_expire_days: how long gc
    keeps what only a reflog leads to. repack_newest: states of each branch whose chunks repack lets stand alone;
    repack_max_depth: deltas that it lets lie below those of older ones, at most; repack_low_rank: whether it looks
    for what rows of a matrix have in common. policy: the table `[policy]` as it stands, for
    `castore.training.policy` to read. retention: `[retention]`, for `castore.retention.rules`; tiers: `[tiers]`,
    for `castore.retention.tiers`; protect: `[protect]`, for `castore.history.protection`; signing: `[signing]`, for
    `castore.operations.signatures`. audited: whether the audit log gets an entry of each change. owner: of commits
    that name none. mirror_of: the uuid of the store whose tiers' commits are copied here; "": none's. maintain,
    scrub: for `castore.maintenance.upkeep.settings`; alerts: for `castore.monitoring.settings`.
    """

    uuid: str = field(default_factory=lambda: new_uuid())  # defined below
    features: frozenset[str] = FEATURES
    hash: str = "xxh3-128"
    chunk_elements: int = 256 << 10
    max_depth: int = 1
    max_depth_half: int = 1
    max_depth_predicted: int = 2
    max_span: int = 12
    reflog_expire_days: int = 30
    repack_newest: int = 1
    repack_max_depth: int = 8
    repack_low_rank: bool = True
    policy: Mapping[str, Any] = field(default_factory=dict)
    retention: Mapping[str, Any] = field(default_factory=dict)
    audited: bool = True
    protect: Mapping[str, Any] = field(default_factory=dict)
    signing: Mapping[str, Any] = field(default_factory=dict)
    owner: str = ""
    tiers: Mapping[str, Any] = field(default_factory=dict)
    mirror_of: str = ""
    maintain: Mapping[str, Any] = field(default_factory=dict)
    scrub: Mapping[str, Any] = field(default_factory=dict)
    alerts: Mapping[str, Any] = field(default_factory=dict)


def new_uuid() -> str:
    """What tells one store from another."""
    import uuid  # 5 ms of imports that opening a store has no use for

    return str(uuid.uuid4())


def write(config: Config, root: Path) -> None:
    """Write castore.toml into a new store."""
    import tomli_w

    _fs.replace(
        root / NAME,
        tomli_w.dumps(
            {
                "format_version": FORMAT_VERSION,
                "required_features": sorted(config.features),
                "uuid": config.uuid,
                **({"mirror_of": config.mirror_of} if config.mirror_of else {}),
                "hash": config.hash,
                "chunk_elements": config.chunk_elements,
                "delta": {
                    "max_depth": config.max_depth,
                    "max_depth_half": config.max_depth_half,
                    "max_depth_predicted": config.max_depth_predicted,
                    "max_span": config.max_span,
                },
                "gc": {"reflog_expire_days": config.reflog_expire_days},
                "repack": {
                    "newest": config.repack_newest,
                    "max_depth": config.repack_max_depth,
                    "low_rank": config.repack_low_rank,
                },
                **({"policy": dict(config.policy)} if config.policy else {}),
                **({"retention": dict(config.retention)} if config.retention else {}),
                **({"protect": dict(config.protect)} if config.protect else {}),
                **({"signing": dict(config.signing)} if config.signing else {}),
                **({"commit": {"owner": config.owner}} if config.owner else {}),
                **({} if config.audited else {"audit": {"enabled": False}}),
                **({"tiers": dict(config.tiers)} if config.tiers else {}),
            }
        ).encode(),
    )


def require(root: Path, features: Iterable[str] = FEATURES) -> None:
    """Let castore.toml name what a program must know, before it must: older ones then refuse the store by name.

    Call with the store's lock held. Everything else in the file stays, but for comments.
    """
    import tomli_w

    table = _table(root)
    table["required_features"] = sorted({*map(str, table.get("required_features", [])), *features})
    _fs.replace(root / NAME, tomli_w.dumps(table).encode())


def read(root: Path) -> Config:
    """Read castore.toml. Raises StoreNotFoundError, UnsupportedStoreError, CorruptError."""
    return _checked(_table(root), root / NAME)


def parse_toml(text: str) -> dict[str, Any]:
    """A table of TOML. Raises ValueError, RecursionError."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    table: dict[str, Any] = tomllib.loads(text)
    return table


def _table(root: Path) -> dict[str, Any]:
    path = root / NAME
    if not path.is_file():  # a pipe of that name would block for ever
        raise _no_store(root)
    try:
        with _fs.storage_errors("read", path), path.open("rb") as file:
            data = file.read(limits.MAX_CONFIG_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        raise _no_store(root) from None
    return parse(data, path)


def _no_store(root: Path) -> StoreNotFoundError:
    return StoreNotFoundError(f"{root} is not a castore store; make one with `castore init`")


def parse(data: bytes, path: Path) -> dict[str, Any]:
    """The tables of a castore.toml of these bytes. Raises CorruptError that names `path`."""
    if len(data) > limits.MAX_CONFIG_BYTES:
        raise CorruptError(f"{path} is larger than any configuration; restore it from a copy")
    try:
        return parse_toml(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise CorruptError(
            f"{path} is not valid TOML: {error}; mend the line, or restore the file from a copy"
        ) from error


def _checked(table: dict[str, Any], path: Path) -> Config:
    version = table.get("format_version")
    if type(version) is not int or version < 1:
        raise CorruptError(f"{path} names no format_version; restore the file from a copy")
    if version > FORMAT_VERSION:
        raise UnsupportedStoreError(
            f"{path.parent} has store format {version}, this castore reads up to {FORMAT_VERSION}: upgrade castore"
        )
    features = _setting(table, "required_features", list, path, [])
    unknown = [name for name in map(str, features) if name not in KNOWN_FEATURES]
    if unknown:
        raise UnsupportedStoreError(
            f"{path.parent} needs the feature {unknown[0]!r}, which this castore does not know: upgrade castore"
        )
    default = Config(uuid="")
    delta, gc, repack = table.get("delta", {}), table.get("gc", {}), table.get("repack", {})
    config = Config(
        features=frozenset(map(str, features)),
        uuid=_setting(table, "uuid", str, path, default.uuid),
        hash=_setting(table, "hash", str, path, default.hash),
        chunk_elements=_setting(table, "chunk_elements", int, path, default.chunk_elements),
        max_depth=_setting(delta, "max_depth", int, path, default.max_depth),
        max_depth_half=_setting(delta, "max_depth_half", int, path, default.max_depth_half),
        max_depth_predicted=_setting(delta, "max_depth_predicted", int, path, default.max_depth_predicted),
        max_span=_setting(delta, "max_span", int, path, default.max_span),
        reflog_expire_days=_setting(gc, "reflog_expire_days", int, path, default.reflog_expire_days),
        repack_newest=_setting(repack, "newest", int, path, default.repack_newest),
        repack_max_depth=_setting(repack, "max_depth", int, path, default.repack_max_depth),
        repack_low_rank=_setting(repack, "low_rank", bool, path, default.repack_low_rank),
        policy=_setting(table, "policy", dict, path, {}),
        retention=_setting(table, "retention", dict, path, {}),
        protect=_setting(table, "protect", dict, path, {}),
        signing=_setting(table, "signing", dict, path, {}),
        owner=_setting(table.get("commit", {}), "owner", str, path, default.owner),
        audited=_setting(table.get("audit", {}), "enabled", bool, path, default.audited),
        tiers=_setting(table, "tiers", dict, path, {}),
        mirror_of=_setting(table, "mirror_of", str, path, default.mirror_of),
        maintain=_setting(table, "maintain", dict, path, {}),
        scrub=_setting(table, "scrub", dict, path, {}),
        alerts=_setting(table, "alerts", dict, path, {}),
    )
    _bounded("chunk_elements", config.chunk_elements, limits.MIN_CHUNK_ELEMENTS, limits.MAX_CHUNK_ELEMENTS, path)
    _bounded("delta.max_depth", config.max_depth, 0, limits.MAX_DEPTH - 1, path)
    _bounded("delta.max_depth_half", config.max_depth_half, 0, limits.MAX_DEPTH - 1, path)
    _bounded("delta.max_depth_predicted", config.max_depth_predicted, 0, limits.MAX_DEPTH - 1, path)
    _bounded("delta.max_span", config.max_span, 1, limits.MAX_SPAN, path)
    _bounded("gc.reflog_expire_days", config.reflog_expire_days, 0, 36500, path)
    _bounded("repack.newest", config.repack_newest, 0, 1000, path)
    _bounded("repack.max_depth", config.repack_max_depth, 0, limits.MAX_REPACK_DEPTH, path)
    return config


def _setting(table: Any, name: str, kind: type, path: Path, default: Any) -> Any:
    value = table.get(name, default) if isinstance(table, dict) else None
    if type(value) is not kind:
        raise CorruptError(f"{path}: {name} should be {kind.__name__}, not {value!r}; mend it")
    return value


def _bounded(name: str, value: int, low: int, high: int, path: Path) -> None:
    if not low <= value <= high:
        raise CorruptError(f"{path}: {name} = {value} is outside {low} to {high}; mend it")
