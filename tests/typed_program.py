"""What an editor and a type checker know of a user's program; mypy reads this file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import rgraph as C

if TYPE_CHECKING:
    from typing_extensions import assert_type

    x = C.sequence.input_variable(3)
    assert_type(x, C.Variable)
    assert_type(C.input_variable(3), C.Variable)
    assert_type(C.tanh(x), C.Function)
    assert_type(2 * x + 1 > 0, C.Function)
    assert_type(C.reduce_sum(x, axis=0), C.Function)
    assert_type(C.sequence.last(x, name="last"), C.Function)
    assert_type(C.squared_error(x, x), C.Function)
    assert_type(C.layers.Dense(3), C.Function)
    assert_type(C.layers.Dense(3)(x), C.Function)
    assert_type(C.layers.Recurrence(C.layers.GRU(3))(x), C.Function)
    assert_type(C.layers.Sequential([C.layers.Dense(3), C.relu]), C.Function)
