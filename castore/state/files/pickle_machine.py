"""A pickle interpreter that executes nothing: opcodes in, the inert objects of `skeleton.py` out.

Every opcode reads inside the data or fails, makes at most one object of the size of what it read, and calls nothing.
The format: Lib/pickletools.py of CPython, protocols 0 to 5.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable
from typing import NoReturn

from castore import limits
from castore.state.files.skeleton import Global, Mapping, Opaque, StorageRef, TensorRef, call, persistent

_U16 = struct.Struct("<H")
_U32 = struct.Struct("<I")
_I32 = struct.Struct("<i")
_U64 = struct.Struct("<Q")
_F64 = struct.Struct(">d")
_MAX_INT_BYTES = 9  # sizes and keys; a longer integer is no part of a tensor's geometry
_MAX_TEXT_INT = 20
_MAX_NAME_CHARS = 1024
_MAX_MARKS = 100_000  # each holds a list of its own


class PickleError(ValueError):
    """The data is no pickle, or one beyond the limits."""


class Machine:
    """One pass over one pickle.

    storages: the first storage reference of each key. tensors: every tensor that it rebuilds.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        self._stack: list[object] = []
        self._marks: list[list[object]] = []
        self._memo: dict[int, object] = {}
        self.storages: dict[str, StorageRef] = {}
        self.tensors: list[TensorRef] = []

    def run(self) -> object:
        """The object that the pickle describes. Raises PickleError, IndexError, KeyError or struct.error."""
        data, handlers, memo = self._data, _HANDLERS, self._memo
        for _ in range(limits.MAX_PICKLE_OBJECTS):
            opcode = data[self._at]
            self._at += 1
            if opcode == _LONG_BINPUT:  # every third opcode of a checkpoint
                memo[_U32.unpack_from(data, self._at)[0]] = self._stack[-1]
                self._at += 4
            elif opcode == _STOP:
                return self._stack.pop()
            else:
                handlers[opcode](self)
        raise PickleError("more objects than the limit")

    # Reading operands

    def _take(self, nbytes: int) -> bytes:
        end = self._at + nbytes
        if end > len(self._data):
            raise PickleError("ends in the middle of an object")
        piece = self._data[self._at : end]
        self._at = end
        return piece

    def _number(self, form: struct.Struct) -> int:
        value: int = form.unpack_from(self._data, self._at)[0]
        self._at += form.size
        return value

    def _byte(self) -> int:
        value = self._data[self._at]
        self._at += 1
        return value

    def _line(self) -> str:
        end = self._data.find(b"\n", self._at)
        if end < 0:
            raise PickleError("ends in the middle of a line")
        line = self._data[self._at : end]
        self._at = end + 1
        return line.decode("utf-8", "replace")

    def _pop_mark(self) -> list[object]:
        items = self._stack
        self._stack = self._marks.pop()
        return items

    # Stack

    def _push(self, value: object) -> None:
        self._stack.append(value)

    def _mark(self) -> None:
        if len(self._marks) >= _MAX_MARKS:
            raise PickleError("nested deeper than the limit")
        self._marks.append(self._stack)
        self._stack = []

    def _pop(self) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self._pop_mark()

    # Memo

    def _put(self, index: int) -> None:
        self._memo[index] = self._stack[-1]

    # Containers

    def _append(self) -> None:
        item = self._stack.pop()
        self._extend([item])

    def _extend(self, items: list[object]) -> None:
        target = self._stack[-1]
        if isinstance(target, list):
            target.extend(items)
        else:
            self._add_part(target, items)

    def _set_item(self) -> None:
        value = self._stack.pop()
        key = self._stack.pop()
        self._set_pairs([key, value])

    def _set_pairs(self, items: list[object]) -> None:
        target = self._stack[-1]
        if isinstance(target, Mapping):
            target.pairs.extend(zip(items[::2], items[1::2], strict=True))
        else:
            self._add_part(target, items)

    @staticmethod
    def _add_part(target: object, part: object) -> None:
        """Items of an object we know nothing of are looked through for tensors like the rest of it."""
        if isinstance(target, Opaque):
            target.state.append(part)

    def _tuple(self, size: int) -> None:
        if size > len(self._stack):
            raise PickleError("takes more than there is")
        items = tuple(self._stack[-size:])
        self._stack[-size:] = [items]

    # Objects

    def _global(self, module: object, name: object) -> None:
        if type(module) is not str or type(name) is not str:
            raise PickleError("a global without a name")
        if len(module) + len(name) > _MAX_NAME_CHARS:  # they come from the memo: joining them again and again adds up
            raise PickleError("a name longer than the limit")
        self._push(Global(f"{module}.{name}"))

    def _stack_global(self) -> None:
        name = self._stack.pop()
        self._global(self._stack.pop(), name)

    def _reduce(self) -> None:
        args = self._stack.pop()
        self._record(call(self._stack.pop(), args))

    def _new(self) -> None:
        args = self._stack.pop()
        self._stack[-1] = Opaque((args,))

    def _new_ex(self) -> None:
        named = self._stack.pop()
        args = self._stack.pop()
        self._stack[-1] = Opaque((args, named))

    def _build(self) -> None:
        state = self._stack.pop()
        self._add_part(self._stack[-1], state)

    def _inst(self) -> None:
        self._line(), self._line()
        self._push(Opaque(tuple(self._pop_mark())))

    def _persistent(self, pid: object) -> None:
        self._record(persistent(pid))

    def _record(self, made: object) -> None:
        if isinstance(made, StorageRef):
            self.storages.setdefault(made.key, made)
        elif isinstance(made, TensorRef):
            self.tensors.append(made)
        self._push(made)

    # Values

    def _long(self, nbytes: int) -> None:
        digits = self._take(nbytes)
        short = nbytes <= _MAX_INT_BYTES
        self._push(int.from_bytes(digits, "little", signed=True) if short else Opaque())

    def _text_int(self) -> None:
        line = self._line().removesuffix("L")
        if line in ("00", "01"):
            self._push(line == "01")
        else:
            self._push(int(line) if len(line) <= _MAX_TEXT_INT else Opaque())

    def _text(self, nbytes: int) -> None:
        self._push(self._take(nbytes).decode("utf-8", "replace"))

    def _float(self) -> None:
        self._push(_F64.unpack(self._take(8))[0])

    def _bytes(self, nbytes: int) -> None:
        """The bytes themselves are in the file; nothing here needs a copy."""
        self._take(nbytes)
        self._push(b"")


def _refuse(machine: Machine) -> NoReturn:
    raise PickleError("an opcode that no checkpoint has")


_STOP = pickle.STOP[0]
_LONG_BINPUT = pickle.LONG_BINPUT[0]

_BY_NAME: dict[bytes, Callable[[Machine], object]] = {
    pickle.PROTO: Machine._byte,
    pickle.FRAME: lambda m: m._number(_U64),
    pickle.MARK: Machine._mark,
    pickle.POP: Machine._pop,
    pickle.POP_MARK: Machine._pop_mark,
    pickle.DUP: lambda m: m._push(m._stack[-1]),
    pickle.NONE: lambda m: m._push(None),
    pickle.NEWTRUE: lambda m: m._push(True),
    pickle.NEWFALSE: lambda m: m._push(False),
    pickle.INT: Machine._text_int,
    pickle.LONG: Machine._text_int,
    pickle.BININT: lambda m: m._push(m._number(_I32)),
    pickle.BININT1: lambda m: m._push(m._byte()),
    pickle.BININT2: lambda m: m._push(m._number(_U16)),
    pickle.LONG1: lambda m: m._long(m._byte()),
    pickle.LONG4: lambda m: m._long(m._number(_U32)),
    pickle.FLOAT: lambda m: m._push(float(m._line())),
    pickle.BINFLOAT: Machine._float,
    pickle.STRING: lambda m: m._push(m._line()),
    pickle.BINSTRING: lambda m: m._text(m._number(_U32)),
    pickle.SHORT_BINSTRING: lambda m: m._text(m._byte()),
    pickle.BINBYTES: lambda m: m._bytes(m._number(_U32)),
    pickle.SHORT_BINBYTES: lambda m: m._bytes(m._byte()),
    pickle.BINBYTES8: lambda m: m._bytes(m._number(_U64)),
    pickle.BYTEARRAY8: lambda m: m._bytes(m._number(_U64)),
    pickle.UNICODE: lambda m: m._push(m._line()),
    pickle.BINUNICODE: lambda m: m._text(m._number(_U32)),
    pickle.SHORT_BINUNICODE: lambda m: m._text(m._byte()),
    pickle.BINUNICODE8: lambda m: m._text(m._number(_U64)),
    pickle.EMPTY_LIST: lambda m: m._push([]),
    pickle.LIST: lambda m: m._push(m._pop_mark()),
    pickle.APPEND: Machine._append,
    pickle.APPENDS: lambda m: m._extend(m._pop_mark()),
    pickle.EMPTY_TUPLE: lambda m: m._push(()),
    pickle.TUPLE: lambda m: m._push(tuple(m._pop_mark())),
    pickle.TUPLE1: lambda m: m._tuple(1),
    pickle.TUPLE2: lambda m: m._tuple(2),
    pickle.TUPLE3: lambda m: m._tuple(3),
    pickle.EMPTY_DICT: lambda m: m._push(Mapping()),
    pickle.SETITEM: Machine._set_item,
    pickle.SETITEMS: lambda m: m._set_pairs(m._pop_mark()),
    pickle.EMPTY_SET: lambda m: m._push([]),
    pickle.ADDITEMS: lambda m: m._extend(m._pop_mark()),
    pickle.FROZENSET: lambda m: m._push(m._pop_mark()),
    pickle.GLOBAL: lambda m: m._global(m._line(), m._line()),
    pickle.STACK_GLOBAL: Machine._stack_global,
    pickle.REDUCE: Machine._reduce,
    pickle.NEWOBJ: Machine._new,
    pickle.NEWOBJ_EX: Machine._new_ex,
    pickle.BUILD: Machine._build,
    pickle.OBJ: lambda m: m._push(Opaque(tuple(m._pop_mark()))),
    pickle.INST: Machine._inst,
    pickle.PUT: lambda m: m._put(int(m._line()[:_MAX_TEXT_INT])),
    pickle.BINPUT: lambda m: m._put(m._byte()),
    pickle.LONG_BINPUT: lambda m: m._put(m._number(_U32)),
    pickle.MEMOIZE: lambda m: m._put(len(m._memo)),
    pickle.GET: lambda m: m._push(m._memo[int(m._line()[:_MAX_TEXT_INT])]),
    pickle.BINGET: lambda m: m._push(m._memo[m._byte()]),
    pickle.LONG_BINGET: lambda m: m._push(m._memo[m._number(_U32)]),
    pickle.BINPERSID: lambda m: m._persistent(m._stack.pop()),
    pickle.PERSID: lambda m: m._persistent(m._line()),
    pickle.EXT1: _refuse,
    pickle.EXT2: _refuse,
    pickle.EXT4: _refuse,
}
_HANDLERS: list[Callable[[Machine], object]] = [_refuse] * 256
for _name, _handler in _BY_NAME.items():
    _HANDLERS[_name[0]] = _handler
