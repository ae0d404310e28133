"""Frames of a loop without Python between them: see `plan.tape`."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Sequence
from ctypes import POINTER, byref, c_char_p, c_int, c_ssize_t, c_void_p
from typing import Any

from ..strides import address
from .programs import MOST_ARRAYS, MOST_VALUES, Compiled, Programs

_NO_MEMORY = 2


class _Place(ctypes.Structure):
    _fields_ = [
        *((name, c_int) for name in ("rule", "source", "axis")),
        *((name, c_ssize_t) for name in ("start", "size")),
        ("spare", c_int),
    ]


class _Entry(ctypes.Structure):
    _fields_ = [
        ("what", c_void_p),
        *((name, c_int) for name in ("product", "panels", "first", "count")),
    ]


class _Delay(ctypes.Structure):
    _fields_ = [("place", _Place), ("initial", c_int)]


class _Last(ctypes.Structure):
    _fields_ = [("value", c_int), ("array", c_int)]


class _Tape(ctypes.Structure):
    _fields_ = [
        ("places", POINTER(_Place)),
        ("entries", POINTER(_Entry)),
        ("operands", POINTER(c_int)),
        ("delays", POINTER(_Delay)),
        ("lasts", POINTER(_Last)),
        ("copy", c_void_p),
        *((name, c_int) for name in ("values", "calls", "delayed", "kept", "arrays")),
    ]


class _Frames(ctypes.Structure):
    _fields_ = [("starts", c_void_p), ("count", c_ssize_t), ("step", c_ssize_t)]


class Tapes:
    """What goes through tapes.

    Args:
        programs: the compiled library.
    """

    def __init__(self, programs: Programs) -> None:
        copy = programs.compiled([("element_max", (0, 0))], 1, [1])
        assert copy is not None
        self.copy = copy
        self.run = programs.library.run_tape
        self.run.argtypes = [c_void_p, c_char_p, c_char_p, c_void_p]

    def tape(
        self, places: Sequence[Any], entries: Sequence[Any], delays: Sequence[tuple[Any, int]],
        lasts: Sequence[tuple[int, int]], arrays: int,
    ) -> Callable[..., bool] | None:  # fmt: skip
        """`go(arrays, panels, starts, step)`, which says whether it could.

        Args:
            places: `plan.tape.Place` of each value.
            entries: `plan.tape.Entry` of each call.
            delays: the place of each delay, and the number of the array of its initial states.
            lasts: values whose last rows are kept, and the numbers of their arrays.
            arrays: how many there are.
        """
        longest = max((len(e.values) for e in entries), default=0)
        if len(places) > MOST_VALUES or longest > MOST_ARRAYS:
            return None
        calls: list[_Entry] = []
        operands: list[int] = []
        products = 0
        for e in entries:
            what = e.what.program if isinstance(e.what, Compiled) else e.what.product
            is_product = e.right is not None
            calls.append(
                _Entry(ctypes.addressof(what), is_product, products, len(operands), len(e.values))
            )
            operands += e.values
            products += is_product
        tape = _Tape(
            (_Place * len(places))(*(_Place(*p) for p in places)), (_Entry * len(calls))(*calls),
            (c_int * len(operands))(*operands),
            (_Delay * len(delays))(*(_Delay(_Place(*p), i) for p, i in delays)),
            (_Last * len(lasts))(*(_Last(*last) for last in lasts)),
            ctypes.addressof(self.copy.program), len(places), len(calls), len(delays), len(lasts),
            arrays,
        )  # fmt: skip
        here = byref(tape)

        def go(arrays: Sequence[Any], panels: Sequence[Any], starts: Any, step: int) -> bool:
            frames = _Frames(address(starts), len(starts) - 1, step)
            objects = struct.pack(f"{len(arrays)}P", *map(id, arrays))
            own = struct.pack(f"{len(panels)}P", *map(address, panels))
            refused = self.run(here, objects, own, byref(frames))
            if refused == _NO_MEMORY:
                raise MemoryError("there was no memory for a product in a recurrence")
            return not refused

        return go
