"""Objects that name each other by hash: what is changed in one is made right in all above it."""

from __future__ import annotations

from castore.chunks.hashing import Hash


def rehashed(objects: list[bytes], at: int, new: bytes, hash_: Hash) -> list[bytes]:
    """The objects with another one at a place, and the ids in them that this changes."""
    found = list(objects)
    pending = [(at, new)]
    for _ in range(4 * len(objects)):  # bounded: a mutation may have put an id where it makes this go on for ever
        if not pending:
            break
        number, data = pending.pop()
        old_id, found[number] = hash_.digest(found[number]), data
        new_id = hash_.digest(data)
        for other, content in enumerate(found):
            if old_id in content and other != number and old_id != new_id:
                pending.append((other, content.replace(old_id, new_id)))
    return found
