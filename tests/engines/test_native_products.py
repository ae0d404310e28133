"""Products with a matrix that a loop multiplies by, and their tails, and products over all rows,
against NumPy in float64."""

from itertools import product

import numpy as np
import pytest

import rgraph as C
from rgraph import device
from rgraph.engines import cpu
from rgraph.engines.native import Native
from rgraph.engines.native.products import BoundProduct
from rgraph.layers import GRU, LSTM, Recurrence
from rgraph.ops.contractions import _ROWS, _recipe
from rgraph.ops.records import TABLE
from rgraph.plan import Run
from tests.engines.binding import Kernels
from tests.engines.tail_programs import TAILS, program

pytestmark = pytest.mark.cpu

ENGINE = cpu.made("native")
if ENGINE is None:
    pytest.skip(cpu.WHY_NOT["native"], allow_module_level=True)

RNG = np.random.default_rng(0)


def unwritten(shape, dtype):
    return np.full(shape, np.nan, dtype)


def refused(*_, **__):
    raise AssertionError("it suits, but went to the engine's other kernel")


KERNELS = Kernels(Native(unwritten), refused)


def numbers(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def run():
    """In a loop."""
    made = Run(ENGINE, {}, 1)
    made.step = None, slice(0, 1)
    return made


def recipe(exchanged=False, left_transposed=False, right_transposed=False):
    """That of (rows, depth) times (depth, columns), with the factors in this form."""
    left = (0, _ROWS) if left_transposed else (_ROWS, 0)
    right = (1, 0) if right_transposed else (0, 1)
    found = _recipe(*((right, left) if exchanged else (left, right)), (_ROWS, 1))
    assert (found.turned, *found.transposed) == (exchanged, left_transposed, right_transposed)
    return found


def operands(recipe, left, right):
    """The factors as the recipe wants them."""
    a, b = (m.T if turned else m for m, turned in zip((left, right), recipe.transposed))
    return (b, a) if recipe.turned else (a, b)


def truth(left, right):
    return left.astype(float) @ right.astype(float)


def close(found, expected):
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6 * np.abs(expected).max())


OVER_ROWS = {
    False: _recipe((_ROWS, 1), (_ROWS, 0), (0, 1)),  # the wide one first, as in a gradient
    True: _recipe((_ROWS, 0), (_ROWS, 1), (0, 1)),
}
SIZES = [
    # rows, depth, columns
    (1, 1, 1),
    (2, 3, 1),
    (1, 600, 5),
    (7, 33, 31),
    (15, 1, 65),
    (40, 513, 97),
    (130, 1100, 75),
    (3, 200, 700),
    (331, 40, 257),
    (701, 9, 1025),  # rows in several slabs
]


@pytest.mark.parametrize("name", ["times", "contract"])
@pytest.mark.parametrize("rows, depth, columns", SIZES)
def test_products(rows, depth, columns, name):
    """In each of the forms that factors have."""
    left, right = numbers(rows, depth), numbers(depth, columns)
    for form in product([False, True], repeat=3):
        made = recipe(*form)
        a, b = map(np.ascontiguousarray, operands(made, left, right))
        close(KERNELS[name](run(), a, b, recipe=made), truth(left, right))


@pytest.mark.parametrize("rows, depth, columns", [(1, 1, 1), (32, 40, 10), (9, 200, 100)])
def test_small_products_outside_of_loops(rows, depth, columns):
    """Rows may be in both factors, and these may be views."""
    left, right = numbers(rows, depth), numbers(depth, columns)
    for form in product([False, True], repeat=3):
        made = recipe(*form)
        a, b = operands(made, left, right)
        close(KERNELS["contract"](Run(ENGINE, {}, 1), a, b, recipe=made), truth(left, right))
    for narrow_first, made in OVER_ROWS.items():
        given = (left.T, right) if narrow_first else (right, left.T)
        close(KERNELS["contract"](Run(ENGINE, {}, 1), *given, recipe=made), truth(left, right))


LEFT_FACTORS = {
    "columns of a wider one": lambda a: np.hstack([a, a])[:, : a.shape[1]],
    "every second column": lambda a: np.repeat(a, 2, axis=1)[:, ::2],
    "reversed": lambda a: a[::-1, ::-1],
    "repeated": lambda a: np.broadcast_to(a[:1], a.shape),
    "in Fortran's order": np.asfortranarray,
}


@pytest.mark.parametrize("factor", LEFT_FACTORS)
@pytest.mark.parametrize("rows", [5, 70])
def test_memory_orders(factor, rows):
    left, right = LEFT_FACTORS[factor](numbers(rows, 90)), numbers(51, 90)[::-1, ::-1].T
    out = unwritten((rows, 51), np.float32)
    assert KERNELS["times"](run(), left, right, recipe=recipe(), out=out) is out
    close(out, truth(left, right))


def test_a_matrix_is_put_in_order_once_in_a_run():
    left, right, later = numbers(4, 20), numbers(20, 20), run()
    transposed = recipe(right_transposed=True)
    for _ in range(2):
        close(KERNELS["times"](later, left, right, recipe=recipe()), truth(left, right))
        close(KERNELS["times"](later, left, right, recipe=transposed), truth(left, right.T))
    assert len(later.memo) == 2
    right *= 2
    close(KERNELS["times"](run(), left, right, recipe=recipe()), truth(left, right))


def with_tail(tail, made, left, right, a, b, out):
    chain, constants = program(TAILS[tail][0], 3)
    return KERNELS["tailed"](
        run(), *operands(made, left, right), a, b, *constants, head=TABLE["times"],
        arguments={"recipe": made}, program=chain, out=out,
    )  # fmt: skip


OPERANDS = {
    "whole": lambda rows, columns: numbers(rows, columns),
    "columns of a wider one": lambda rows, columns: numbers(rows, 4 * columns)[:, -columns:],
    "per column": lambda rows, columns: numbers(columns),
    "per row": lambda rows, columns: numbers(rows, 1),
    "one number": lambda rows, columns: numbers(1),
}


@pytest.mark.parametrize(
    "rows, depth, columns", [(1, 9, 70), (70, 9, 1), (37, 20, 129), (600, 12, 513)]
)
@pytest.mark.parametrize("operand", OPERANDS)
@pytest.mark.parametrize("tail", TAILS)
def test_tails(tail, operand, rows, depth, columns):
    left, right = numbers(rows, depth), numbers(depth, columns) / depth
    a, b = OPERANDS[operand](rows, columns), numbers(rows, columns)
    expected = TAILS[tail][1](truth(left, right), a.astype(float), b.astype(float))
    for form in product([False, True], repeat=3):
        out = unwritten((rows, columns), np.float32)
        assert with_tail(tail, recipe(*form), left, right, a, b, out) is out
        close(out, expected)


@pytest.mark.parametrize("rows, depth, columns", SIZES)
def test_a_tail_in_the_place_of_its_operand(rows, depth, columns):
    left, right = numbers(rows, depth), numbers(depth, columns) / depth
    a, b = numbers(rows, columns), numbers(rows, columns)
    expected = TAILS["blend"][1](truth(left, right), a.astype(float), b.astype(float))
    assert with_tail("blend", recipe(), left, right, a, b, b) is b
    close(b, expected)


VIEWS = {
    "whole": lambda a: a,
    "columns of a wider one": lambda a: np.hstack([a, a])[:, : a.shape[1]],
    "reversed": lambda a: a[::-1],
}


@pytest.mark.parametrize("narrow_first", OVER_ROWS)
@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("rows, narrow, wide", [(1, 1, 256), (300, 15, 512), (700, 128, 288)])
def test_products_over_all_rows(rows, narrow, wide, view, narrow_first):
    a, b = VIEWS[view](numbers(rows, narrow)), VIEWS[view](numbers(rows, wide))
    made = OVER_ROWS[narrow_first]
    given = (a, b) if narrow_first else (b, a)
    found = KERNELS["contract"](Run(ENGINE, {}, 1), *given, recipe=made)
    close(found, truth(a.T, b))


@pytest.mark.parametrize(
    "case", ["double", "narrow ones", "odd columns", "no rows", "other rows", "gaps"]
)
def test_other_products_over_all_rows_go_to_the_other_kernel(case):
    a, b = {
        "double": (np.ones((9, 4)), np.ones((9, 512))),
        "narrow ones": (numbers(900, 4), numbers(900, 128)),
        "odd columns": (numbers(900, 4), numbers(900, 513)),
        "no rows": (numbers(0, 4), numbers(0, 512)),
        "other rows": (numbers(900, 4), numbers(800, 512)),
        "gaps": (numbers(900, 4), numbers(900, 1024)[:, ::2]),
    }[case]
    made = Kernels(Native(unwritten), lambda *_, **__: "other")
    assert made["contract"](Run(ENGINE, {}, 1), a, b, recipe=OVER_ROWS[True]) == "other"


UNSUITED = {
    "double": {"left": np.zeros((3, 4)), "right": np.zeros((4, 5))},
    "rank 3": {"left": np.zeros((2, 3, 4), np.float32)},
    "no rows": {"left": np.zeros((0, 4), np.float32)},
    "other sizes": {"left": np.zeros((3, 6), np.float32)},
    "a number": {"right": np.float32(1)},
    "a result with gaps": {"out": np.zeros((3, 10), np.float32)[:, ::2]},
    "a result in double": {"out": np.zeros((3, 5))},
    "rows in both": {"recipe": _recipe((_ROWS, 0), (_ROWS, 1), (0, 1))},
    "large, outside of a loop": {
        "run": Run(ENGINE, {}, 1),
        "left": np.zeros((900, 300), np.float32),
        "right": np.zeros((300, 64), np.float32),
        "out": np.zeros((900, 64), np.float32),
    },
}


@pytest.mark.parametrize("case", UNSUITED)
def test_what_does_not_suit_goes_to_the_other_kernel_untouched(case):
    given = {
        "run": run(), "left": numbers(3, 4), "right": numbers(4, 5), "recipe": recipe(),
        "out": np.zeros((3, 5), np.float32),
    } | UNSUITED[case]  # fmt: skip
    its, left, right, out = (given[name] for name in ("run", "left", "right", "out"))

    def other(*operands, **more):
        assert [id(o) for o in operands[:3]] == [id(its), id(left), id(right)]
        assert more.get("out", out) is out and not out.any()
        return 7

    made = Kernels(Native(unwritten), other)
    assert np.all(made["times"](its, left, right, recipe=given["recipe"], out=out) == 7)
    out[...] = 0
    arguments = {"recipe": given["recipe"]}
    chain, _ = program(C.tanh, 1)
    tailed = {"head": TABLE["times"], "arguments": arguments, "program": chain}
    assert made["tailed"](its, left, right, out=out, **tailed) == 7


@pytest.fixture
def panels(monkeypatch):
    """Of each matrix that was wanted in panels, what came of it."""
    found, panels = [], BoundProduct.prepared

    def noted(*arguments, **more):
        found.append(panels(*arguments, **more))
        return found[-1]

    monkeypatch.setattr(BoundProduct, "prepared", noted)
    return found


@pytest.mark.parametrize("name", [n for n in device.cpu_engines() if n != "numpy"])
@pytest.mark.parametrize("cell", [LSTM, GRU])
def test_recurrent_layers(cell, name, engines, panels):
    """Over ragged sequences, forward and gradients."""
    x = C.sequence.input_variable(21, needs_gradient=True)
    y = C.tanh(Recurrence(cell(45))(x))
    data = {x: [numbers(n, 21) for n in (9, 1, 30, 4, 30, 17, 2)]}
    wrt = [x, *y.parameters]
    values = []
    for chosen in name, "numpy":
        engines(chosen)
        gradients = y.grad(data, wrt=wrt)
        found = [y.eval(data), *(gradients[v] for v in wrt)]
        values.append([np.concatenate(v) if isinstance(v, list) else v for v in found])
    assert panels and all(p is not None for p in panels)
    for a, b in zip(*values):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * np.abs(b).max())
