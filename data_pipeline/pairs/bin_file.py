"""insightface's `.bin`: a pickle of (encoded images, same-or-not), read without running what it says.

The file's opcodes are checked against a short list before anything is built, and the few names that real
files of this kind carry (numpy arrays of bytes or bools, Python 2 strings) are met by stand-ins of our own,
so neither a foreign callable nor numpy's unpickling code is ever called.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from data_pipeline.errors import PairSetError
from data_pipeline.files.atomic import replacing
from data_pipeline.pairs.bin_numpy import Array, Dtype, Refused, from_buffer, reconstruct, scalar

MAX_FILE_BYTES = 8 << 30
EXPECTED = "expected insightface's pickle of (list of encoded images, list of bools)"

# fmt: off
_ALLOWED_OPCODES = frozenset((
    "PROTO", "FRAME", "STOP", "MARK", "POP", "POP_MARK", "MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT",
    "GET", "BINGET", "LONG_BINGET", "EMPTY_LIST", "LIST", "APPEND", "APPENDS", "EMPTY_TUPLE", "TUPLE",
    "TUPLE1", "TUPLE2", "TUPLE3", "NONE", "NEWTRUE", "NEWFALSE", "INT", "BININT", "BININT1", "BININT2",
    "LONG", "LONG1", "FLOAT", "BINFLOAT", "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE",
    "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
    "GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD",
))
# fmt: on
_MEMO_WRITES = frozenset(("PUT", "BINPUT", "LONG_BINPUT"))


def _encode(text: Any, encoding: Any) -> bytes:
    """Stands for codecs.encode, by which Python 3 writes bytes into a protocol 2 pickle."""
    if not isinstance(text, str) or encoding not in ("latin1", b"latin1", "latin-1", b"latin-1"):
        raise Refused("a text encoding other than latin1")
    return text.encode("latin1")


def _empty_bytes(*arguments: Any) -> bytes:
    if arguments:
        raise Refused("bytes() with arguments")
    return b""


_STAND_INS: dict[tuple[str, str], Callable[..., Any]] = {
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): _empty_bytes,
    ("builtins", "bytes"): _empty_bytes,
    ("numpy", "ndarray"): Array,
    ("numpy", "dtype"): Dtype,
}
for _core in ("numpy.core", "numpy._core"):
    _STAND_INS[f"{_core}.multiarray", "_reconstruct"] = reconstruct
    _STAND_INS[f"{_core}.multiarray", "scalar"] = scalar
    _STAND_INS[f"{_core}.numeric", "_frombuffer"] = from_buffer


class _Callable:
    """A stand-in as the file sees it: it can be called, and nothing can be set on it."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise Refused("state for a function")


class _PairUnpickler(pickle.Unpickler):
    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content), encoding="bytes")
        self._size = self._left = len(content)

    def find_class(self, module: str, name: str) -> _Callable:
        """The stand-in for a name, and nothing else."""
        if (module, name) not in _STAND_INS:
            raise Refused(f"it names {module}.{name}, which no pair set needs")
        call = _STAND_INS[module, name]

        def counted(*arguments: Any) -> Any:
            # What is made of a text that the file holds once and names often would be of any size.
            made = call(*arguments)
            self._left -= len(made) if isinstance(made, bytes) else 0
            if self._left < 0:
                raise Refused(f"it makes more bytes than its own {self._size}")
            return made

        return _Callable(counted)


def _check_opcodes(content: bytes) -> None:
    """Refuses what no pair set has; each check bounds what the unpickler may then do."""
    end = 0
    for count, (opcode, argument, position) in enumerate(pickletools.genops(content), start=1):
        if opcode.name not in _ALLOWED_OPCODES:
            raise Refused(f"opcode {opcode.name} at byte {position}")
        # The unpickler's memo is an array as long as its largest index.
        if opcode.name in _MEMO_WRITES and int(argument or 0) > count:
            raise Refused(f"memo index {argument} at byte {position}")
        end = (position or 0) + 1
    if end != len(content):
        raise Refused(f"{len(content) - end} bytes after its end")


def read_pickle(path: Path) -> tuple[list[bytes], list[bool]]:
    """The encoded images and the bools of a `.bin`. Raises PairSetError naming the file if it is none."""
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise PairSetError(f"{path}: {size} bytes; a pair set of at most {MAX_FILE_BYTES} is expected")
        content = path.read_bytes()
    except OSError as error:
        raise PairSetError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        _check_opcodes(content)
        loaded = _PairUnpickler(content).load()
        return _as_pair_set(loaded)
    except Refused as refused:
        raise PairSetError(f"{path}: not a pair set: {refused}; {EXPECTED}") from None
    except (
        pickle.UnpicklingError,
        ValueError,
        TypeError,
        EOFError,
        IndexError,
        KeyError,
        AttributeError,
    ) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise PairSetError(f"{path}: not a pair set: {reason}; {EXPECTED}") from None
    except (RecursionError, MemoryError, OverflowError) as error:
        raise PairSetError(f"{path}: not a pair set: {type(error).__name__}; {EXPECTED}") from None


def _as_pair_set(loaded: Any) -> tuple[list[bytes], list[bool]]:
    if not isinstance(loaded, tuple | list) or len(loaded) != 2:
        raise Refused("it holds no pair of lists")
    if not isinstance(loaded[0], tuple | list):
        raise Refused("its images are no list")
    copies: dict[int, bytes] = {}
    images = [_as_bytes(image, place, copies) for place, image in enumerate(loaded[0])]
    same = _as_bools(loaded[1])
    if not same:
        raise Refused("it holds no pair")
    if len(images) != 2 * len(same):
        raise Refused(f"{len(images)} images for {len(same)} pairs, two a pair are expected")
    return images, same


def _as_bytes(value: Any, place: int, copies: dict[int, bytes]) -> bytes:
    """copies: of each bytearray by its id, so that one that is named often is copied once."""
    if isinstance(value, Array) and value.dtype.kind not in "ub":
        raise Refused(f"image {place} is a numpy array of {value.name!r}, encoded bytes are expected")
    content = value.content if isinstance(value, Array) else value
    if not isinstance(content, bytes | bytearray) or not content:
        raise Refused(f"image {place} is no encoded image")
    if isinstance(content, bytes):
        return content
    return copies.setdefault(id(content), copies.get(id(content)) or bytes(content))


def _as_bools(flags: Any) -> list[bool]:
    """1 is same; different is 0 or, where the set has no 0, -1. Any kind of number says so."""
    if isinstance(flags, Array):
        flags = flags.values()
    if not isinstance(flags, list | tuple):
        raise Refused("its bools are no list")
    numbers = [_as_number(flag) for flag in flags]
    for place, number in enumerate(numbers):
        if number not in (1, 0, -1):
            raise Refused(f"pair {place} is marked neither same nor different")
    if 0 in numbers and -1 in numbers:
        raise Refused("its pairs are marked with 0 and with -1, one of them is expected for different ones")
    return [number == 1 for number in numbers]


def _as_number(flag: Any) -> float | None:
    if isinstance(flag, Array) and len(flag.content) == flag.dtype.itemsize:
        flag = flag.values()[0]
    return flag if isinstance(flag, bool | int | float) else None


def write_pickle(path: Path, images: list[bytes], same: list[bool]) -> None:
    """Writes what `pickle.load(file, encoding="bytes")` gives back as (images, same); whole or not at all."""
    path = Path(path)
    try:
        with replacing(path) as file:
            pickle.dump((images, same), file, protocol=4)
    except OSError as error:
        raise PairSetError(f"{path}: cannot be written: {error.strerror}") from None
