"""Runs one of CNTK's programs and writes down the numbers that it computes.

It is written for Python 3.6 and later and speaks CNTK's public Python alone, because the same file
runs the program on CNTK 2.7 and on rgraph. What it changes for both alike:

- Chance is off: dropout passes on, sources keep their order, crops are central, colors stay,
  samples are drawn by NumPy from the same seed.
- Both start from the same parameters: the first writes them down, the second takes them.
- A trainer takes twenty minibatches, and then none; what counts samples is told that all are read.
- Training begins at the beginning, whatever checkpoints earlier runs have left.
- Plots go nowhere, and nothing is fetched.
"""

import ast
import builtins
import contextlib
import functools
import importlib
import json
import os
import pickle
import random
import re
import runpy
import sys
import traceback
import types
import warnings

import numpy as np
from stand_ins import Drawing, Nothing, restore_numpy, restore_pandas, restore_scipy, serve

NEVER = 10**9  # more samples than any program trains on
KEPT = 64  # numbers of a value that are compared
OMITTED = re.compile(r"^(\s*)(?:[%!](?=[A-Za-z])|from __future__ import)")  # by notebooks alone


def recall(record, owner):
    """A source that training reads from gives, once that is over, its last minibatch again."""
    plain, last = owner.next_minibatch, {}

    def next_minibatch(self, *args, **kwargs):
        if record.exhausted and id(self) in last:
            return last[id(self)]
        read = plain(self, *args, **kwargs)
        if not record.exhausted:
            last[id(self)] = read
            record.writers.append(self)  # its id is not another's
        return read

    owner.next_minibatch = next_minibatch


class Record:
    """What the program computed, in the order in which it did."""

    def __init__(self, minibatches, started):
        self.minibatches = minibatches
        self.values = []
        self.writers = []
        self.steps = {}
        self.exhausted = self.in_session = False
        self.starts = []  # (name, shape, value) of each parameter, in the order of their first use
        self.known = {}
        self.given = started

    def note(self, kind, value):
        numbers = np.ravel(np.asarray(value, np.float64))
        self.values.append([kind, list(np.shape(value)), numbers[:KEPT].tolist()])

    def start(self, function):
        """Gives parameters that are used for the first time the values that CNTK had."""
        try:
            parameters = [p for p in function.parameters if p.uid not in self.known]
        except Exception:
            return
        for p in sorted(parameters, key=lambda p: int((re.findall(r"\d+", p.uid) or [0])[-1])):
            if any(size < 0 for size in p.shape):
                continue
            self.known[p.uid] = p
            if self.given is None:
                self.starts.append((p.name, tuple(p.shape), np.array(p.value)))
                continue
            size = np.prod(p.shape)  # axes of one element may have come to be inferred, or not
            for i, (name, _, value) in enumerate(self.given):
                if name == p.name and value.size == size:
                    p.value = value.astype(p.dtype).reshape(p.shape)
                    del self.given[i]
                    break


def replace(package, old, new):
    """Puts a function in the place of another wherever the library says its name."""
    for name, module in list(sys.modules.items()):
        if module is not None and name.split(".")[0] in (package, "cntk"):
            for key, value in list(vars(module).items()):
                if value is old:
                    setattr(module, key, new)


def wrap(owner, name, around):
    """Replaces a method by `around(method, self, ...)`."""
    method = getattr(owner, name)

    @functools.wraps(method)
    def wrapped(self, *args, **kwargs):
        return around(method, self, *args, **kwargs)

    setattr(owner, name, wrapped)


def make_certain(C, package):
    """Takes chance away: dropout, order, crops and draws."""
    replace(package, C.dropout, lambda x, *_, **__: C.alias(x))
    replace(package, C.layers.Dropout, lambda *_, **__: C.layers.identity)

    def weights_of(weights):
        value = weights if isinstance(weights, np.ndarray) else weights.eval()
        return np.ravel(np.asarray(value, np.float64))

    def random_sample(weights, num_samples, allow_duplicates, seed=None, name=""):
        p = weights_of(weights)
        draws = np.random.RandomState(1)
        chosen = draws.choice(len(p), num_samples, replace=allow_duplicates, p=p / p.sum())
        return C.constant((np.arange(len(p)) == chosen[:, None]).astype(np.float32), name=name)

    def frequency(weights, num_samples, allow_duplicates, seed=None, name=""):
        p = weights_of(weights)
        return C.constant((num_samples * p / p.sum()).astype(np.float32)[None], name=name)

    replace(package, C.random_sample, random_sample)
    replace(package, C.random_sample_inclusion_frequency, frequency)
    transforms = importlib.import_module("cntk.io.transforms")
    crop = transforms.crop

    def central(crop_type="center", crop_size=0, side_ratio=0.0, *_, **__):
        ratio = max(side_ratio) if isinstance(side_ratio, tuple) else side_ratio
        return crop("center", crop_size, ratio)

    replace(package, crop, central)
    color = transforms.color
    replace(package, color, lambda *_, **__: color(0.0, 0.0, 0.0))
    source = C.io.MinibatchSource.__init__

    def in_order(self, deserializers, *args, **kwargs):
        bound = dict(zip(["max_samples", "max_sweeps"], args), **kwargs)  # noqa: B905
        for key in list(bound):
            if key.startswith("randomiz"):
                del bound[key]
        source(self, deserializers, randomize=False, **bound)

    C.io.MinibatchSource.__init__ = in_order


def make_short(C, record):
    """Lets every trainer take so many minibatches, and writes down what comes out of each."""
    trainer = C.Trainer
    session = importlib.import_module("cntk.train.training_session").TrainingSession

    class Writer(C.logging.ProgressPrinter):
        def on_write_training_update(self, samples, updates, loss, metric):
            count = max(samples[1] - samples[0], 1)
            record.note("loss", (loss[1] - loss[0]) / count)
            record.note("metric", (metric[1] - metric[0]) / count)

        def on_write_test_summary(self, samples, updates, summaries, metric, elapsed):
            record.note("test", metric / max(samples, 1))

        def on_write_training_summary(self, *_):
            pass

        def on_write_test_update(self, *_):
            pass

    def started(old, self, model, criterion, parameter_learners, progress_writers=None, *rest):
        writers = progress_writers or []
        writers = list(writers) if isinstance(writers, (list, tuple)) else [writers]
        record.writers.append(Writer(freq=1))
        old(self, model, criterion, parameter_learners, [*writers, record.writers[-1]], *rest)
        record.steps[id(self)] = 0
        record.exhausted = False
        record.start(self.loss_function)
        record.writers.append(self)  # its id is not another's

    def trained(old, self, arguments, outputs=None, *rest, **options):
        if record.in_session:  # which CNTK runs by itself; it is held by its samples
            return old(self, arguments, outputs, *rest, **options)
        record.steps[id(self)] = record.steps.get(id(self), 0) + 1
        if record.steps[id(self)] > record.minibatches:
            return False if not outputs else (False, record.outputs)
        result = old(self, arguments, outputs, *rest, **options)
        if outputs:
            record.outputs = result[1]
        record.exhausted = record.steps[id(self)] >= record.minibatches
        return result

    def tested(old, self, *args, **kwargs):
        result = old(self, *args, **kwargs)
        record.note("test", result)
        return result

    names = ["trainer", "mb_source", "mb_size", "model_inputs_to_streams", "max_samples"]
    names += ["progress_frequency", "checkpoint_config", "cv_config", "test_config"]

    def held(old, self, *args, **kwargs):
        given = dict(zip(names, args), **kwargs)  # noqa: B905
        size = given["mb_size"]
        size = size if isinstance(size, int) else int(size[0])
        limit = given.get("max_samples") or NEVER
        given["max_samples"] = min(limit, record.minibatches * size)
        old(self, **given)

    def anew(old, self, *args, **kwargs):
        old(self, *args, **dict(kwargs, restore=False))

    def session_run(old, self, *args, **kwargs):
        record.in_session = True
        try:
            return old(self, *args, **kwargs)
        finally:
            record.in_session = False

    record.outputs = {}
    wrap(trainer, "__init__", started)
    wrap(trainer, "train_minibatch", trained)
    wrap(trainer, "test_minibatch", tested)
    wrap(session, "__init__", held)
    wrap(session, "train", session_run)
    wrap(C.train.CheckpointConfig, "__init__", anew)
    recall(record, C.io.MinibatchSource)
    all_read(record, C.io.MinibatchData, "num_samples")
    all_read(record, trainer, "total_number_of_samples_seen")
    for name in ("eval", "forward", "grad"):
        wrap(C.Function, name, functools.partial(used, record, name))


def all_read(record, owner, counter):
    """Lets a counter of samples say, once training is over, that all have been read."""
    plain = owner.__getattribute__

    def attribute(self, name):
        return NEVER if record.exhausted and name == counter else plain(self, name)

    owner.__getattribute__ = attribute


def used(record, name, old, self, *args, **kwargs):
    """A function of the user's is evaluated: it starts as CNTK's, and its value is compared."""
    record.start(self)
    result = old(self, *args, **kwargs)
    caller = sys._getframe(2).f_globals.get("__name__", "")  # the libraries evaluate, too
    if name == "eval" and caller.split(".")[0] not in ("cntk", "rgraph"):
        try:
            values = result.values() if isinstance(result, dict) else [result]
            for value in values:
                rows = value if isinstance(value, list) else [value]
                for row in rows[:2]:
                    if isinstance(row, np.ndarray):
                        record.note("value", row)
        except (TypeError, ValueError):
            pass
    return result


def cells_of(notebook):
    """The code of a notebook, cell by cell, without what only a notebook understands."""
    with open(notebook, encoding="utf-8") as file:
        cells = json.load(file)["cells"]
    for cell in cells:
        if cell["cell_type"] == "code":
            lines = "".join(cell["source"]).splitlines()
            if lines and not lines[0].startswith("%%"):
                yield "\n".join(OMITTED.sub(r"\1pass #", line) for line in lines)


def show(namespace, tree):
    """Evaluates a cell's last expression, as a notebook does to show it."""
    last = tree.body[-1] if tree.body else None
    if isinstance(last, ast.Expr):
        tree.body.pop()
    exec(compile(tree, "cell", "exec"), namespace)
    if isinstance(last, ast.Expr):
        str(eval(compile(ast.Expression(last.value), "cell", "eval"), namespace))


def run(program, arguments):
    sys.argv = [program, *arguments]
    sys.path[0] = os.path.dirname(os.path.abspath(program))
    if not program.endswith(".ipynb"):
        runpy.run_path(program, run_name="__main__")
        return
    main = types.ModuleType("__main__")
    main.__dict__["__builtins__"] = builtins
    main.__dict__["get_ipython"] = Nothing()
    sys.modules["__main__"] = main
    for cell in cells_of(program):
        show(main.__dict__, ast.parse(cell))


def main():
    package, plan = sys.argv[1], json.loads(sys.argv[2])
    builtins.input = lambda *_: "quit"
    warnings.filterwarnings("ignore")
    sys.meta_path.insert(0, Drawing())
    sys.path.append(os.path.join(plan["served"], "modules"))
    serve(plan["served"])
    restore_numpy()
    restore_pandas()
    restore_scipy()
    with contextlib.suppress(ImportError):
        importlib.import_module("PIL.Image")  # which matplotlib would import
    if package != "cntk":
        importlib.import_module(package + ".__main__").stand_in_for_cntk()
    C = importlib.import_module("cntk")
    start = plan["start"]
    given = None
    if package != "cntk" and os.path.exists(start):
        with open(start, "rb") as file:
            given = pickle.load(file)
    record = Record(plan["minibatches"], given)
    C.device.try_set_default_device(C.device.cpu())
    make_certain(C, package)
    make_short(C, record)
    np.random.seed(0)
    random.seed(0)
    result = {"error": None}
    os.chdir(
        os.path.join(os.path.dirname(os.path.abspath(plan["program"])), plan.get("folder", ""))
    )
    try:
        run(os.path.abspath(plan["program"]), plan["arguments"])
    except SystemExit as error:
        if error.code not in (None, 0):
            result["error"] = f"exit: {error.code}"
    except BaseException as error:
        result["error"] = f"{type(error).__name__}: {error}"
        result["trace"] = traceback.format_exc()
    result["values"] = record.values
    result["unmatched"] = len(record.given or [])
    with open(plan["result"], "w") as file:
        json.dump(result, file)
    if given is None:
        with open(start, "wb") as file:
            pickle.dump(record.starts, file, protocol=4)
    sys.stdout.flush()
    os._exit(0)


main()
