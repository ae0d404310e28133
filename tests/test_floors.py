"""The house: imports go downward, `import rgraph` is light, large graphs are no trouble."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import rgraph as C
from rgraph.ops.records import TABLE

ROOT = Path(C.__file__).parent

# From the ground up. What stands on one line may import from lines above it, and from each other.
FLOORS = [
    ["graph"],
    ["default_options"],
    ["ops"],
    ["plan"],
    ["engines"],
    ["initializer"],
    ["passes"],
    ["device", "runtime"],
    ["operands"],
    ["inspect"],
    ["losses", "internal"],
    ["metrics"],
    ["files", "io", "logging"],
    ["learners"],
    ["eval"],
    ["train"],
    ["model"],
]  # all else is above


def modules():
    for path in sorted(ROOT.rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        yield name.removesuffix(".__init__").removesuffix("__init__"), path


def statements(node):
    """All statements, in functions too; none of what only a type checker reads."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        yield child
        yield from statements(child)


def imported(path, name):
    """The modules of the package that a module imports, at its top or later, as dotted names."""
    package = name.split(".") if path.name == "__init__.py" and name else name.split(".")[:-1]
    for node in statements(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            if node.level:
                base = package[: len(package) - node.level + 1]
                source = [*base, *(node.module.split(".") if node.module else [])]
                if source:
                    yield source[0]
                else:
                    yield from (a.name for a in node.names)
            elif node.module and node.module.split(".")[0] == "rgraph":
                yield node.module.partition(".")[2] or "rgraph"
        elif isinstance(node, ast.Import):
            yield from (a.name.partition(".")[2] for a in node.names if a.name.startswith("rgraph"))


def floor(name):
    top = name.split(".")[0]
    return next((i for i, names in enumerate(FLOORS) if top in names), len(FLOORS))


@pytest.mark.parametrize("name, path", list(modules()), ids=lambda v: v or "rgraph")
def test_imports_go_downward(name, path):
    if not name:
        return  # the public namespace
    above = [m for m in imported(path, name) if floor(m) > floor(name)]
    assert not above, f"{name} imports {above} from above it"


def test_a_module_is_read_in_one_sitting():
    """At most 400 lines of code, docstrings and blank lines aside."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    for name, path in modules():
        lines = {i: s for i, s in enumerate(path.read_text().splitlines(), 1) if s.strip()}
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, documented) and ast.get_docstring(node) is not None:
                for i in range(node.body[0].lineno, node.body[0].end_lineno + 1):
                    lines.pop(i, None)
        assert len(lines) <= 400, f"{name} has {len(lines)} lines of code"


def _names_an_operation(node, names):
    """Whether an expression looks a record up by its name, or compares it or its name with one."""
    if isinstance(node, ast.Subscript):
        table = isinstance(node.value, ast.Name) and node.value.id == "TABLE"
        return table and isinstance(node.slice, ast.Constant)
    if isinstance(node, ast.Compare):
        sides = [node.left, *node.comparators]
        parts = [p for s in sides for p in (s.elts if isinstance(s, (ast.Set, ast.Tuple)) else [s])]
        known = any(isinstance(p, ast.Constant) and p.value in names for p in parts)
        if known and any(isinstance(s, ast.Attribute) and s.attr == "name" for s in sides):
            return True
        record = any(isinstance(p, ast.Name) and p.id.isupper() for p in parts)
        return record and any(isinstance(s, ast.Attribute) and s.attr == "op" for s in sides)
    if isinstance(node, ast.Dict):
        keys = [k.value for k in node.keys if isinstance(k, ast.Constant)]
        return len(keys) > 1 and names.issuperset(keys)
    if isinstance(node, ast.Set):
        return all(isinstance(e, ast.Constant) and e.value in names for e in node.elts)
    return False


# What has kernels for some operations, or writes them down in another's terms, says which
KNOW_NAMES = ("ops", "files", *(f"engines.{p}" for p in ("native", "onednn", "numpy", "cuda")))


def test_only_records_providers_and_formats_know_operations_by_name():
    """What passes, plan, messages and tables need to know is a field of the record."""
    names = set(TABLE)
    for name, path in modules():
        if name.startswith(KNOW_NAMES) and name != "engines.cuda.plan":
            continue
        lines = [
            n.lineno for n in ast.walk(ast.parse(path.read_text())) if _names_an_operation(n, names)
        ]
        assert not lines, f"{path} knows an operation by its name, in lines {lines}"


def test_methods_are_written_where_their_class_is():
    for name, path in modules():
        for node in ast.parse(path.read_text()).body:
            targets = node.targets if isinstance(node, ast.Assign) else []
            outside = [
                ast.unparse(t)
                for t in targets
                if isinstance(t, ast.Attribute) and ast.unparse(t.value).istitle()
            ]
            assert not outside, f"{name} sets {outside}"


def test_settings_stand_in_the_context():
    """Threads would share what a `global` statement sets; the CPU's threads are the process's."""
    for name, path in modules():
        found = [
            n.names for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Global)
        ]
        assert not found or name == "engines.numpy.threads", f"{name} sets {found}"


def test_caches_are_bounded():
    """`functools.cache` is for what is found out once: functions without arguments."""
    for name, path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                marks = {ast.unparse(d).removeprefix("functools.") for d in node.decorator_list}
                unbounded = marks & {"cache", "lru_cache(None)", "lru_cache(maxsize=None)"}
                assert not unbounded or not node.args.args, f"{name}.{node.name} keeps everything"


def test_import_is_light():
    code = (
        "import sys, rgraph\n"
        "heavy = {'scipy', 'matplotlib', 'cupy', 'torch', 'PIL', 'pandas', 'pytest'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT.parent)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_two_thousand_operations():
    """x + 0.001 x a thousand times over: (1.001)^1000 x, and so its gradient."""
    x = C.input_variable(3, np.float64)
    f = x
    for _ in range(1000):
        f = f + 0.001 * f
    values = np.array([[1.0, -2.0, 0.5]])
    np.testing.assert_allclose(f.eval({x: values}), 1.001**1000 * values, rtol=1e-10)
    np.testing.assert_allclose(f.grad({x: values}, wrt=x), [[1.001**1000] * 3], rtol=1e-10)
    y = C.input_variable(3, np.float64)
    np.testing.assert_allclose(f(y).eval({y: values}), 1.001**1000 * values, rtol=1e-10)


def test_two_thousand_operations_in_a_loop():
    x = C.sequence.input_variable((), np.float64)

    def step(h, v):
        for _ in range(1000):
            h = h + 0.001 * h
        return h + v

    f = C.layers.Recurrence(step)(x)
    growth = 1.001**1000
    (found,) = f.eval({x: np.array([1.0, 0, 1])})
    np.testing.assert_allclose(found, [1, growth, growth**2 + 1], rtol=1e-10)
    (g,) = f.grad({x: np.array([1.0, 0, 1])}, wrt=x)
    np.testing.assert_allclose(g, [1 + growth + growth**2, 1 + growth, 1], rtol=1e-10)


def test_a_hundred_layers_of_recurrences():
    x = C.sequence.input_variable((), np.float64)
    f = x
    for _ in range(100):
        f = C.layers.Recurrence(C.plus)(f)
    (found,) = f.eval({x: np.array([1.0, 0, 0])})
    np.testing.assert_allclose(found, [1, 100, 5050])  # 100 and 100 * 101 / 2
