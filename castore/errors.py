"""The one error tree. Every message is one line: what is wrong, and what to do about it.

CastoreError                          1   anything castore refuses or finds
|-- UsageError                        2   the arguments don't make sense (the CLI library's own code too)
|-- StoreNotFoundError                3   no store at that path
|-- StoreExistsError                  3   there is one already
|-- UnsupportedStoreError             4   newer format, unknown feature, network file system
|-- RevisionError                     5   a revision names no commit
|   `-- AmbiguousRevisionError        5   ... or several
|-- RefNameError                      6   not a valid ref name
|-- RefExistsError                    6   a branch or tag of that name is there already
|-- RefConflictError                  7   another process moved the ref first
|-- StateError                        8   a leaf that has no safe encoding, or a state that does not fit
|   `-- DroppedError                  8   a state, or the part that was asked for, that retention dropped
|-- CorruptError                      9   a checksum, link or base is wrong
|   `-- MissingError                  9   a record that history needs is in no pack
|-- TargetExistsError                10   checkout would overwrite a file
|-- UnsafePathError                  10   checkout would write outside its target
|-- StorageError                     11   the disk refused: full, read-only, failing
|-- LockTimeoutError                 12   another process held the store's lock for too long
|-- SignatureError                   13   a signature that could not be made, or that is not a good one
`-- ReplayError                      14   a replay function that raises, or losses that differ
"""

from __future__ import annotations

from typing import ClassVar


class CastoreError(Exception):
    """Base of every error castore raises on purpose; `exit_code` is what the CLI exits with."""

    exit_code: ClassVar[int] = 1


class UsageError(CastoreError):
    exit_code = 2


class StoreNotFoundError(CastoreError):
    exit_code = 3


class StoreExistsError(CastoreError):
    exit_code = 3


class UnsupportedStoreError(CastoreError):
    exit_code = 4


class RevisionError(CastoreError):
    exit_code = 5


class AmbiguousRevisionError(RevisionError):
    pass


class RefNameError(CastoreError):
    exit_code = 6


class RefExistsError(CastoreError):
    exit_code = 6


class RefConflictError(CastoreError):
    exit_code = 7


class StateError(CastoreError):
    exit_code = 8


class DroppedError(StateError):
    pass


class CorruptError(CastoreError):
    exit_code = 9


class MissingError(CorruptError):
    pass


class TargetExistsError(CastoreError):
    exit_code = 10


class UnsafePathError(CastoreError):
    exit_code = 10


class StorageError(CastoreError):
    exit_code = 11


class LockTimeoutError(CastoreError):
    exit_code = 12


class SignatureError(CastoreError):
    exit_code = 13


class ReplayError(CastoreError):
    exit_code = 14
