"""Every bound in one place.

A length, count or depth that comes from a disk or a network is checked against these before anything is
allocated for it, so that a damaged or hostile store costs an error and not the machine's memory.
"""

from __future__ import annotations

KIB = 1 << 10
MIB = 1 << 20
PAGE_BYTES = 4096  # of memory, and a multiple of what any disk asks for past the page cache

# Chunks and records
MAX_CHUNK_BYTES = 16 * MIB  # 1 Mi elements of complex128
MAX_CHUNK_ELEMENTS = 1 << 20
MIN_CHUNK_ELEMENTS = 1 << 10
MAX_OBJECT_BYTES = 64 * MIB  # a list of chunk ids; objects in CBOR are smaller
MAX_PAYLOAD_BYTES = MAX_OBJECT_BYTES + MIB  # no codec may expand a record by more than this
MAX_SPAN = 255  # generations that a delta may reach back: a byte in the pack
MAX_DEPTH = 64  # deltas between a record and a standalone one, whatever the store's setting
MAX_REPACK_DEPTH = 16  # that repack makes; a crash may mix old deltas and new ones, and all must stay within MAX_DEPTH
MAX_BASES = 4  # of one record
MAX_HELD_BYTES = 16 * MAX_CHUNK_BYTES  # of bases that one thread holds while it decodes

# Packs
PACK_TARGET_BYTES = 512 * MIB  # a commit starts another pack beyond this
MAX_PACK_RECORDS = 1 << 24

# Trees and commits
MAX_CBOR_BYTES = 8 * MIB  # of one object; trees fan out at a few KiB. Decoded it takes up to 70 times as much
MAX_TREE_OBJECTS = 1 << 20  # that one tree is read from
MAX_TREE_NODES = 1 << 24  # values, containers and keys of one tree
MAX_TREE_NESTING = 200  # dicts in dicts; also what keeps recursion off the C stack
MAX_CHUNKS_PER_TENSOR = 1 << 26
MAX_TENSOR_DIMS = 64
MAX_MESSAGE_BYTES = MIB
MAX_PARENTS = 64
MAX_PROVENANCE_BYTES = 4 * MIB  # of what produced a commit
MAX_PROVENANCE_TEXT_BYTES = 256 << 10  # of one text in it, such as a diff

# Refs and reflogs
MAX_REF_NAME_BYTES = 255
MAX_REFLOG_LINE_BYTES = 16 * 1024
MAX_SIGNATURES_BYTES = 64 * 1024  # of one commit or tag: some 200 of Ed25519 keys
MAX_AUDIT_LINE_BYTES = 16 * 1024
MAX_MARK_LINE_BYTES = 16 * 1024  # of `dropped`, `pins`, `tiers` and `verified`
MAX_MARKS_BYTES = 256 * MIB  # over a million commits
MAX_CONFIG_BYTES = MIB

# What happened, and upkeep
MAX_EVENT_LINE_BYTES = 16 * 1024
MAX_EVENTS_BYTES = 4 * MIB  # of the file of events; then another one is begun, and the one before is kept
MAX_MAINTENANCE_BYTES = MIB  # of `maintenance`
HOOK_TIMEOUT_S = 30.0  # of the command or the webhook of an alert

# Containers of files that we read but did not write
MAX_PICKLE_BYTES = 64 * MIB
MAX_PICKLE_OBJECTS = 4_000_000
MAX_ZIP_ENTRIES = 1 << 20
MAX_SAFETENSORS_HEADER_BYTES = 100 * MIB  # the library's own bound

# Time and memory
LOCK_TIMEOUT_S = 120.0  # nobody waits longer for the store's lock
ACCESS_WAIT_S = 1.0  # that a load waits for it, only to note that it was made
INDEX_MAP_BYTES = 1 << 32  # LMDB's first map: address space only; it doubles when full
