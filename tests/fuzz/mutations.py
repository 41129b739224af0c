"""How valid bytes, texts and values are changed. Everything comes from the generator that is given."""

from __future__ import annotations

from random import Random
from typing import Any

NUMBERS = (0, 1, 2, 3, 7, 8, 15, 16, 23, 24, 127, 128, 255, 256, 65535, 1 << 16, (1 << 31) - 1, 1 << 31, (1 << 32) - 1)
LARGE = (1 << 32, 1 << 40, (1 << 53) + 1, (1 << 61) - 1, (1 << 62) - 1, 1 << 62, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)
TEXTS = (
    *(
        "",
        ".",
        "..",
        "../x",
        "/etc/x",
        "a/b",
        "a\\b",
        "\0",
        "\x1b]0;x\x07",
        "\x9b31m",
        "\u202e",
        "\ud800",
        "\n",
        "\r\n",
    ),
    *("HEAD", "-x", "con", "NUL.txt", "com1", ".castore", "a.lock", "K", "\u212a", "ß", "x" * 256, "x" * 5000, "@{1}"),
    *("tensor", "parameter", "array", "bytes", "dict", "list", "tuple", "set", "Counter", "defaultdict", "complex"),
    *("float32", "bfloat16", "complex64", "bool", "O", "<U7", "V8", "(3,)f4", "i4,i8", '{"names":[]}', "pt", "plain"),
)


def mutated_bytes(data: bytes, rng: Random) -> bytes:
    """Some bytes flipped, overwritten by numbers, cut out, doubled, put in or cut off."""
    new = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 8))):
        at = rng.randrange(len(new) + 1)
        span = rng.choice((1, 1, 2, 4, 8, 16, rng.randrange(1, 200)))
        how = rng.randrange(8)
        if how == 0 and at < len(new):
            new[at] ^= 1 << rng.randrange(8)
        elif how == 1 and at < len(new):
            new[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        elif how == 2:
            size = rng.choice((2, 4, 8))
            number = rng.choice(NUMBERS + LARGE) & ((1 << 8 * size) - 1)
            if at + size <= len(new):
                new[at : at + size] = number.to_bytes(size, rng.choice(("little", "big")))
        elif how == 3:
            del new[at : at + span]
        elif how == 4:
            new[at:at] = new[at : at + span]
        elif how == 5:
            new[at:at] = rng.randbytes(span)
        elif how == 6:
            other = rng.randrange(len(new) + 1)
            new[at : at + span] = new[other : other + span]
        elif rng.random() < 0.3:
            del new[at:]
    return bytes(new)


def mutated_text(data: bytes, rng: Random, words: tuple[str, ...] = TEXTS) -> bytes:
    """The same, and words of a text replaced, doubled and swapped."""
    if rng.random() < 0.4:
        return mutated_bytes(data, rng)
    parts = data.replace(b"\t", b" \t ").replace(b"\n", b" \n ").split(b" ")
    for _ in range(rng.choice((1, 1, 2, 3))):
        at, other = rng.randrange(len(parts)), rng.randrange(len(parts))
        how = rng.randrange(4)
        if how == 0:
            parts[at] = rng.choice(words).encode("utf-8", "surrogatepass")
        elif how == 1:
            parts[at] = str(rng.choice(NUMBERS + LARGE) * rng.choice((1, -1))).encode()
        elif how == 2:
            parts.insert(at, parts[other])
        else:
            parts[at], parts[other] = parts[other], parts[at]
    return b" ".join(parts).replace(b" \t ", b"\t").replace(b" \n ", b"\n")


def mutated_value(value: Any, rng: Random) -> Any:
    """A nested value of lists, dicts and plain ones with a few places changed."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        value = _changed(value, rng)
    return value


def _changed(value: Any, rng: Random) -> Any:
    if isinstance(value, list) and value and rng.random() < 0.9:
        new, at = list(value), rng.randrange(len(value))
        how = rng.randrange(10)
        if how == 0:
            del new[at]
        elif how == 1:
            new.insert(at, new[rng.randrange(len(new))])
        elif how == 2:
            other = rng.randrange(len(new))
            new[at], new[other] = new[other], new[at]
        else:
            new[at] = _changed(new[at], rng)
        return new
    if isinstance(value, dict) and value and rng.random() < 0.9:
        table = dict(value)
        key = rng.choice(sorted(table, key=repr))
        how = rng.randrange(8)
        if how == 0:
            del table[key]
        elif how == 1:
            table[rng.choice(TEXTS[:-4])] = table[key]
        else:
            table[key] = _changed(table[key], rng)
        return table
    return _other(value, rng)


def _other(value: Any, rng: Random) -> Any:
    how = rng.randrange(7)
    if how == 0:
        return rng.choice((None, False, True, [], {}, b"", "", [value], {"x": value}, [value] * 3))
    if how == 1 or (type(value) is int and how < 5):
        return rng.choice(NUMBERS + LARGE) * rng.choice((1, 1, 1, -1)) + rng.choice((0, 0, 1, -1))
    if how == 2 or (type(value) is str and how < 5):
        return rng.choice(TEXTS)
    if isinstance(value, bytes):
        return mutated_bytes(value, rng)
    if isinstance(value, str):
        return mutated_text(value.encode("utf-8", "surrogatepass"), rng).decode("utf-8", "replace")
    return value
