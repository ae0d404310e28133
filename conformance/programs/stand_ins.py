"""What programs find in the place of what shows, what fetches, and what other libraries dropped.

Written for Python 3.6 and later, as `worker.py`.
"""

import importlib
import importlib.abc
import importlib.machinery
import os
import re
import shutil
import sys
import types
import urllib.request

import numpy as np

DRAWN = ["matplotlib", "IPython", "seaborn"]


class Nothing(types.ModuleType):
    """A module, function and object that takes whatever is done with it: plots go nowhere."""

    def __init__(self, name="nothing", *_, **__):
        super().__init__(str(name))
        self.__all__ = []
        self.__path__ = []

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        child = Nothing(name)
        setattr(self, name, child)
        return child

    def __call__(self, *_, **__):
        return Nothing()

    def __len__(self):
        return 0

    def __bool__(self):
        return True

    def __iter__(self):
        return iter([Nothing() for _ in range(2)])

    def __getitem__(self, key):
        return Nothing()

    def __setitem__(self, key, value):
        pass


class Drawing(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds a `Nothing` for every module that only shows or fetches."""

    def find_spec(self, name, path, target=None):
        if name.split(".")[0] in DRAWN:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        return Nothing(spec.name)

    def exec_module(self, module):
        pass


def serve(served):
    """What programs would fetch comes out of a folder, by the name of the file."""

    def find(url):
        name = re.split(r"[?#]", url)[0].rstrip("/").rpartition("/")[2]
        file = os.path.join(served, name)
        if not os.path.exists(file):
            raise OSError("nothing is fetched, and no data is made for " + url)
        return file

    def urlretrieve(url, filename=None, *_, **__):
        file = filename or os.path.join(os.getcwd(), "fetched")
        shutil.copy(find(url), file)
        return file, {}

    def get(url, *_, **__):
        with open(find(url), "rb") as file:
            content = file.read()
        answer = types.SimpleNamespace(content=content, text=content.decode("latin1"))
        answer.iter_content = lambda *_, **__: [content]
        return answer

    requests = types.ModuleType("requests")
    requests.get = get
    sys.modules["requests"] = requests
    urllib.request.urlretrieve = urlretrieve
    urllib.request.urlopen = lambda url, *_, **__: open(find(url), "rb")  # noqa: SIM115


def restore_numpy():
    """What programs of that time use of NumPy and what has gone since."""
    for name, kind in [("float", float), ("int", int), ("bool", bool), ("object", object)]:
        if name not in vars(np):
            setattr(np, name, kind)
    np.fromstring = lambda text, dtype=float, sep="": (
        np.array(text.split(sep.strip() or None), dtype)
        if sep
        else np.frombuffer(text, dtype).copy()
    )
    np.lib.pad = np.pad


def restore_pandas():
    """The same for pandas, where it is installed."""
    try:
        pandas = importlib.import_module("pandas")
    except ImportError:
        return
    for kind in pandas.DataFrame, pandas.Series:
        if not hasattr(kind, "as_matrix"):
            kind.as_matrix = lambda self: self.values
    merge = pandas.merge

    def merge_on(left, right, *args, on=None, right_index=False, **kwargs):
        if on is None or not right_index:
            return merge(left, right, *args, on=on, right_index=right_index, **kwargs)
        return merge(left, right, *args, left_on=on, right_index=True, **kwargs)

    pandas.merge = merge_on


def restore_scipy():
    """The same for SciPy: vectors with axes of one element."""
    distance = importlib.import_module("scipy.spatial.distance")
    cosine = distance.cosine
    distance.cosine = lambda u, v, w=None: cosine(np.ravel(u), np.ravel(v), w)
