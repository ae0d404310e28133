"""Default options of layers, which can be overridden: CNTK's `default_options` module."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from types import TracebackType
from typing import Any, TypeVar

import numpy as np

from .graph.context import context

F = TypeVar("F", bound=Callable[..., Any])


class default_override_or:
    """Marks a parameter's default value as one that `default_options` can override.

    Source: CNTK's `default_override_or`.

    >>> from rgraph.default_options import default_override_or, get_default_override
    >>> def layer(pad=default_override_or(False)):
    ...     return get_default_override(layer, pad=pad)
    >>> with C.default_options(pad=True):
    ...     layer()
    True
    """

    def __init__(self, value: object) -> None:
        self.value = value

    def __repr__(self) -> str:
        return getattr(self.value, "__name__", "") or repr(self.value)


class _Overrides:
    """Overridden defaults in a `with` block, for some functions or (None) for all."""

    def __init__(self, functions: frozenset[object] | None, options: dict[str, Any]) -> None:
        self.functions, self.options = functions, options

    def __enter__(self) -> _Overrides:
        _in_force.set((*_in_force.get(), self))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _in_force.set(_in_force.get()[:-1])


_in_force: ContextVar[tuple[_Overrides, ...]] = ContextVar("options in force", default=())


def default_options(**kwargs: object) -> _Overrides:
    """Overrides default options for all layers that are made in the `with` block.

    Explicit options of a layer take precedence, and inner blocks over outer ones.

    Source: CNTK's `default_options`.

    >>> with C.default_options(activation=C.relu, pad=True):
    ...     layer = C.layers.Convolution((3, 3), 8)
    >>> layer(C.input_variable((1, 5, 5))).shape
    (8, 5, 5)
    """
    return _Overrides(None, kwargs)


def default_options_for(functions: Any, **kwargs: Any) -> _Overrides:
    """Same as `default_options`, for one function that makes layers, or a list of them.

    >>> with C.default_options_for(C.layers.Dense, bias=False):
    ...     layer = C.layers.Dense(2)
    >>> [p.name for p in layer.parameters]
    ['W']
    """
    several = isinstance(functions, Iterable)
    return _Overrides(frozenset(functions if several else [functions]), kwargs)


def is_default_override(value: object) -> bool:
    """Whether `value` is a default that can be overridden, rather than an explicit value.

    >>> C.is_default_override(C.default_override_or(13)), C.is_default_override(13)
    (True, False)
    """
    return isinstance(value, default_override_or)


def get_default_override(function_or_class: Any, **kwargs: Any) -> Any:
    """The value of an option: the explicit value, the overridden default, or the default.

    Args:
        function_or_class: the function that makes a layer, or None for a global option.
        kwargs: the name of the option and the argument of the function.

    Source: CNTK's `get_default_override`.

    >>> from rgraph.default_options import default_override_or, get_default_override
    >>> with C.default_options(init=0):
    ...     get_default_override(C.layers.Dense, init=default_override_or(1))
    0
    """
    if len(kwargs) != 1:
        raise TypeError(f"get_default_override takes one option, got {list(kwargs)}")
    function, ((name, value),) = function_or_class, kwargs.items()
    if function is not None and name not in inspect.signature(function).parameters:
        raise TypeError(f"{function.__name__} has no option '{name}'")
    if not is_default_override(value):
        return value
    for scope in reversed(_in_force.get()):
        if name in scope.options and (
            function is None or scope.functions is None or function in scope.functions
        ):
            return scope.options[name]
    return value.value


def set_global_option(key: str, value: object) -> None:
    """Sets a global option. rgraph uses two of them; a program may define others.

    Args:
        key: `"align_axis"`, `"on_nan"`, or any other name.
        value: for `"align_axis"`, whether an index such as `x[:, 0]` includes the batch and time
            axes, as in Keras' backend; for `"on_nan"`, what trainers do about NaN.

    Source: CNTK's `set_global_option`.

    >>> from rgraph.default_options import get_global_option
    >>> C.set_global_option("verbose", True)
    >>> get_global_option("verbose", False), get_global_option("quiet", False)
    (True, False)
    """
    context().options[key] = value


def get_global_option(key: str, default_value: object) -> Any:
    """The value of a global option, see `set_global_option`.

    >>> C.get_global_option("nothing", 3)
    3
    """
    return context().options.get(key, default_value)


def default_dtype() -> Any:
    """The default dtype of inputs and parameters.

    >>> with C.default_options(dtype=np.float64):
    ...     C.input_variable(3).dtype.__name__
    'float64'
    """
    return get_default_override(None, dtype=default_override_or(np.float32))


def overridable(*names: str) -> Callable[[F], F]:
    """A decorator: lets `default_options` override the defaults of these parameters.

    >>> from rgraph.default_options import overridable
    >>> @overridable("pad")
    ... def layer(pad=False):
    ...     return pad
    >>> with C.default_options(pad=True):
    ...     layer(), layer(pad=False)
    (True, False)
    """

    def decorate(factory: F) -> F:
        signature = inspect.signature(factory)
        defaults = {n: default_override_or(signature.parameters[n].default) for n in names}

        @functools.wraps(factory)
        def call(*args: object, **kwargs: object) -> Any:
            given = bound_to(factory.__name__, signature, args, kwargs)
            for name, default in defaults.items():
                value = given.arguments.get(name, default)
                given.arguments[name] = get_default_override(call, **{name: value})
            given.apply_defaults()
            return factory(*given.args, **given.kwargs)

        call.makes_layer = True  # type: ignore[attr-defined]  # `trace` refuses it as a layer
        return call  # type: ignore[return-value]

    return decorate


class _Default:
    """Stands for a default value in messages."""

    def __repr__(self) -> str:
        return "…"


_DEFAULT = _Default()


def bound_to(
    name: str, signature: inspect.Signature, args: Sequence[object], kwargs: Mapping[str, object]
) -> inspect.BoundArguments:
    """The arguments of a call.

    Raises:
        TypeError: an argument is missing or unknown, or there are too many. The message names the
            function and its parameters, without annotations and default values.
    """
    try:
        return signature.bind(*args, **kwargs)
    except TypeError as error:
        plain = [
            p.replace(annotation=p.empty, default=p.empty if p.default is p.empty else _DEFAULT)
            for p in signature.parameters.values()
        ]
        takes = inspect.Signature(plain)
        raise TypeError(f"{name}(): {error}; it takes {takes}") from None


__all__ = [
    "default_options",
    "default_options_for",
    "default_override_or",
    "get_default_override",
    "get_global_option",
    "is_default_override",
    "set_global_option",
]
