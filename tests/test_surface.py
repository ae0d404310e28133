"""The public names of CNTK 2.7, at their module paths, with their parameters.

`reference/cntk_surface.json` was written down from the real CNTK 2.7 by walking its modules: of
each module what it gives out; "from x" and "module x" say where that is from, "(a, b=1)" are
parameters as `inspect` shows them, a class has its members; "elsewhere" is what a module imports
from other libraries.
"""

import enum
import inspect
import json
import re
import subprocess
import sys
import types
from functools import partial
from pathlib import Path

import pytest

import rgraph as C
from docs import from_cntk
from rgraph import surface
from rgraph.surface import left_out

REFERENCE = json.loads(
    Path(__file__).with_name("reference").joinpath("cntk_surface.json").read_text()
)
LIBRARY = REFERENCE.pop("cntk_py")  # kinds alone: what CNTK's Python is made of
LEAKS = {
    "division",
    "print_function",
    "tests",
    "getargspec",
}  # of old Pythons, and tests
# None, our default, is what CNTK's default says
NONE_STANDS_FOR = {"unit_gain": "True", "infer_input_rank_to_map": "-1"}
BY_POSITION = {"arg0", "newShape", "learningRateSchedule"}  # what a generator called them
OMITTED = " ".join(left_out.LEFT_OUT.values()).split()


def entries():
    """All that CNTK's modules give out: path, name, what it is."""
    for path, names in REFERENCE.items():
        for name, what in names.items():
            if name not in LEAKS:
                yield path, name, what


def ours(path, name):
    return getattr(surface.module_at(path), name)


def is_omitted(path, name):
    return name in OMITTED or f"{path}.{name}" in OMITTED


def test_the_table_of_names_is_the_references():
    listed = {(path, name) for path, names in surface.names().items() for name in names}
    theirs = {(path, name) for path, name, _ in entries()}
    # what CNTK's tutorials, and private names that other people's programs import
    assert theirs <= listed
    assert all(p.startswith("tests") or n[0] == "_" for p, n in listed - theirs)


@pytest.mark.parametrize("path", REFERENCE)
def test_names_and_kinds(path):
    wrong = []
    for name, what in REFERENCE[path].items():
        if name in LEAKS or is_omitted(path, name):
            continue
        try:
            found = ours(path, name)
        except AttributeError as error:
            wrong.append(str(error))
            continue
        kinds = {"(": callable(found), "m": isinstance(found, types.ModuleType)}
        kinds |= {"v": True, "e": True}
        if isinstance(what, dict):
            right = isinstance(found, type) or name in left_out.DECLARED
        elif what.startswith("from "):
            right = found is ours(what.removeprefix("from "), name)
        else:
            right = kinds[what[0]]
        if what in ("value -1", "value 1", "value 0") or str(what).startswith("value 18"):
            right = found == int(what.split()[1]) or name in left_out.DECLARED
        if not right:
            wrong.append(f"{path}.{name} is {found!r}, in CNTK it is {what}")
    assert not wrong


def test_what_is_left_out_is_refused_with_a_reason():
    members = {f"{n}.{m}" for _, n, what in entries() if isinstance(what, dict) for m in what}
    for name in OMITTED:
        path, _, last = name.rpartition(".")
        if path in REFERENCE and path:
            places = [(path, last)]
        elif path or name.startswith("."):
            found = [m for m in members if m == name or m.endswith(name) and name[0] == "."]
            assert found, f"CNTK has no {name}"
            continue
        else:
            places = [(p, n) for p, n, _ in entries() if n == name]
        assert places, f"CNTK has no {name}"
        for place in places:
            stub = ours(*place)
            assert isinstance(stub, left_out.Refused), f"{name} is there: it is not left out"
            with pytest.raises(C.GraphError, match="left out"):
                stub()
            with pytest.raises(C.GraphError, match="left out"):
                type("Derived", types.resolve_bases((stub,)), {})


def parameters(text):
    """Names and defaults from '(a, b=1, **c)'."""
    parts = re.findall(r"[^,(\[{]+(?:[(\[{][^)\]}]*[)\]}])*[^,]*", text[1:-1])
    return [tuple((part.strip() + "=").split("=")[:2]) for part in parts if part.strip()]


def same_default(name, theirs, mine):
    if mine is inspect.Parameter.empty:
        return theirs == ""
    if mine is None and name in NONE_STANDS_FOR:
        return theirs == NONE_STANDS_FOR[name]
    if theirs == "{}":
        return not mine
    if isinstance(mine, enum.Enum):
        return True
    try:
        value = eval(theirs, {"inf": float("inf")})
    except (NameError, SyntaxError, AttributeError):
        return True  # an object: a schedule, a default that may be overridden
    numbers_for_none = (2**31 - 1, 2**64 - 3)
    as_list = list(mine) if isinstance(mine, tuple) else mine
    return value in numbers_for_none and mine is None or value in (mine, as_list)


def difference(what, function):
    """How our parameters differ from CNTK's; '' if all calls that CNTK takes mean the same."""
    if what == "(?)" or "*args" in what:
        return ""
    mine = list(inspect.signature(function).parameters.values())
    named = [(n, d) for n, d in parameters(what) if n not in BY_POSITION]
    if len(named) < len(parameters(what)):
        return ""
    by_name = {p.name: p for p in mine}
    takes_more = any(p.kind is p.VAR_POSITIONAL for p in mine)
    for i, (name, default) in enumerate(named):
        if name.startswith("*"):
            continue
        if name not in by_name:
            return f"there is no {name}"
        own = by_name[name]
        if not takes_more and own is not mine[i]:
            return f"{name} stands elsewhere"
        if default and not same_default(name, default, own.default):
            return f"{name} is {own.default!r} by default, not {default}"
    return ""


def is_there(kind, member):
    """Whether instances have it: in a class, or set by one of its methods."""
    sources = (inspect.getsource(c) for c in kind.__mro__[:-1] if c.__module__ != "builtins")
    return hasattr(kind, member) or any(re.search(rf"self\.{member}\b.* = ", s) for s in sources)


@pytest.mark.parametrize("path", REFERENCE)
def test_parameters(path):
    wrong = []
    for name, what in REFERENCE[path].items():
        if is_omitted(path, name) or name in LEAKS or name in left_out.DECLARED:
            continue
        found = ours(path, name)
        if isinstance(what, str) and what.startswith("("):
            if problem := difference(what, found):
                wrong.append(f"{name}{what}: {problem}")
        elif isinstance(what, dict):
            for member, parts in what.items():
                full = f"{name}.{member}"
                if full in left_out.DECLARED or full in OMITTED or f".{member}" in OMITTED:
                    assert full in left_out.DECLARED or not hasattr(found, member), full
                    continue
                if not is_there(found, member):
                    wrong.append(f"there is no {full}{parts}")
                elif hasattr(found, member) and parts != "value":
                    own = getattr(found, member)
                    if (parts[0] == "(") != callable(own):
                        wrong.append(f"{full} is {own!r}, in CNTK {parts}")
                if parts[0] == "(" and callable(getattr(found, member, None)):
                    bare = re.sub(r"\(self,? ?", "(", parts)
                    own = getattr(found, member)
                    if problem := difference(bare, partial(own, None) if bare != parts else own):
                        wrong.append(f"{full}{parts}: {problem}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("path", REFERENCE)
def test_a_star_brings_what_cntks_brings_and_no_more(path):
    scope = {}
    exec(f"from rgraph{'.' * bool(path)}{path} import *", scope)
    del scope["__builtins__"]
    assert scope.keys() == {n for n in REFERENCE[path] if n not in LEAKS}


def test_cntk_is_found_under_its_own_name(tmp_path):
    script = tmp_path / "program.py"
    script.write_text(
        "import sys\n"
        "import cntk as C\n"
        "import cntk.layers.blocks\n"
        "from cntk.ops import *\n"
        "from cntk.layers.blocks import LSTM\n"
        "from cntk.ops.functions import Function, load_model\n"
        "from cntk.testing import check_gradients\n"
        "import cntk.tests.test_utils\n"
        "from _cntk_py import set_fixed_random_seed\n"
        "from cntk.layers.blocks import _inject_name, _INFERRED, _initializer_for\n"
        "cntk.tests.test_utils.set_device_from_pytest_env()\n"
        "import rgraph\n"
        "assert Function is rgraph.Function and C.layers is rgraph.layers\n"
        "assert cntk.layers.blocks.LSTM is LSTM is rgraph.layers.LSTM\n"
        "assert check_gradients is rgraph.testing.check_gradients\n"
        "from cntk.layers.sequence import Recurrence\n"
        "assert C.layers.sequence is C.sequence is cntk.ops.sequence\n"
        "print(__name__, C.__version__, sys.argv[1:], relu(C.constant([-1, 2])).eval())\n"
    )
    command = [sys.executable, "-m", "rgraph", "run", str(script), "--epochs", "1"]
    root = str(Path(C.__file__).parents[1])
    done = subprocess.run(command, capture_output=True, text=True, cwd=root)
    assert done.stdout == "__main__ 2.7 ['--epochs', '1'] [0. 2.]\n", done.stderr


def test_new_processes_of_a_program_find_it_too(tmp_path):
    """As those of `multiprocessing` that begin anew, which Keras reads data in."""
    script = tmp_path / "program.py"
    script.write_text(
        "import multiprocessing\n"
        "import cntk as C\n"
        "from cntk.layers.blocks import LSTM\n"
        "def squared(n):\n"
        "    return int(C.square(C.constant(n)).eval())\n"
        "if __name__ == '__main__':\n"
        "    with multiprocessing.get_context('spawn').Pool(1) as pool:\n"
        "        print(pool.map_async(squared, [2, 3]).get(60))\n"
    )
    command = [sys.executable, "-m", "rgraph", "run", str(script)]
    root = str(Path(C.__file__).parents[1])
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, timeout=120)
    assert done.stdout == "[4, 9]\n", done.stderr


def test_the_page_for_those_who_come_from_cntk_is_up_to_date():
    assert from_cntk.PAGE.read_text("utf-8") == from_cntk.page(), "run python -m docs.from_cntk"


def test_every_difference_is_one_of_a_name_of_cntks():
    members = {f"{n}.{m}" for _, n, what in entries() if isinstance(what, dict) for m in what}
    assert left_out.DECLARED.keys() | left_out.BEHAVES.keys() <= members | {
        name for _, name, _ in entries()
    }


def test_an_update_made_beforehand_learns():
    """As Keras has it: constants stand for the gradients. By hand: 1 - 0.1 * 3 * 2, or * 1."""
    x = C.input_variable(2)
    w, stand_in = C.Parameter(2, init=1), C.constant(0, (2,))
    loss, metric = C.Trainer._get_loss_metric(C.combine(C.reduce_sum(3 * w * x), w[0]))
    learner = C.cntk_py.universal_learner([w], [stand_in], C.assign(w, w - 0.1 * stand_in))
    C.trainer.Trainer(loss, (loss, metric), [learner]).train_minibatch({x: [[2, 1]]})
    assert w.value == pytest.approx([0.4, 0.7])
    assert isinstance(loss, C.cntk_py.Function)
    assert isinstance(w, C.cntk_py.Variable)


def test_the_librarys_names_are_its_own():
    assert set(C.cntk_py.__all__) <= LIBRARY.keys()
    assert C.cntk_py.square is C.square
    assert C.cntk_py.squared_error is C.squared_error  # an example imports it from there
    with pytest.raises(AttributeError, match="no attribute 'Dense'"):
        C.cntk_py.Dense  # noqa: B018


def test_private_helpers_that_programs_import():
    from rgraph.layers.layers import _pad_to_shape, _window

    from rgraph.internal import _as_tuple
    from rgraph.layers.blocks import (
        _INFERRED,
        _get_initial_state_or_default,
        _initializer_for,
        _inject_name,
    )
    from rgraph.learners import _infer_learning_rate_schedule_and_ref_minibatch_size as both

    s = C.sequence.input_variable(1)  # the previous frame, this one, the next one
    window = _window(s, 0, -1, 2, 1, 1, initial_state=0).eval({s: [[[1], [2]]]})[0]
    assert window.tolist() == [[0, 1, 2], [1, 2, 0]]
    assert both(None, 4, 0.5, None)[0].minibatch_size == both(None, 4, 0.5, None)[1] == 4
    x = C.input_variable(3)
    assert _inject_name(x * 2, "twice").name == "twice" and _inject_name(x, "") is x
    assert _inject_name(lambda v: (v, 2 * v), "two").name == "two"
    zero, state, given = _get_initial_state_or_default((None, 0.1, x))
    assert (zero.value, state.shape, given) == (0, (1,), x)
    assert _pad_to_shape((3, 3), 2, "strides") == (2, 2) == _pad_to_shape((3, 3), (2, 2), "")
    w = C.Parameter(_INFERRED + _as_tuple(2), init=_initializer_for(C.glorot_uniform(), {}))
    assert C.times(x, w).shape == (2,) and _initializer_for(0.5) == 0.5
