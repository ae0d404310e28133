import numpy as np
import pytest

import rgraph as C
from rgraph.default_options import get_default_override, overridable
from rgraph.graph.context import context
from rgraph.layers import Convolution, Convolution2D, Dense, MaxPooling


def option(value=C.default_override_or(13)):
    return get_default_override(option, value=value)


@overridable("value")
def decorated(value=13):
    return value


@pytest.mark.parametrize("f", [option, decorated])
def test_who_decides(f):
    assert f() == 13
    assert f(42) == 42
    with C.default_options(value=1968):
        assert f() == 1968
        assert f(value=1976) == 1976
        with C.default_options_for(f, value=2017):
            assert f() == 2017
            assert f(value=123) == 123
        with C.default_options_for([Dense, Convolution], value=1):
            assert f() == 1968
    assert f() == 13


def test_an_override_passed_on_is_looked_up():
    with C.default_options(value=7):
        assert decorated(C.default_override_or(5)) == 7
    assert decorated(C.default_override_or(5)) == 5


def test_a_failure_inside_restores_the_defaults():
    with pytest.raises(KeyError), C.default_options(value=1):
        raise KeyError
    assert option() == 13


def test_layers_follow_them():
    x = C.input_variable((1, 6, 6))
    with C.default_options(activation=C.relu, pad=True, bias=False):
        with C.default_options_for([MaxPooling], pad=False):
            layer, pool = Convolution2D((3, 3), 2), MaxPooling((2, 2))
        plain = Dense(3, activation=None)
    assert layer(x).shape == (2, 6, 6)
    assert pool(x).shape == (1, 5, 5)
    assert [p.name for p in layer.parameters] == ["W"]
    assert layer(x).eval({x: np.random.default_rng(0).normal(size=(1, 1, 6, 6))}).min() == 0
    assert plain(x).eval({x: np.random.default_rng(0).normal(size=(9, 1, 6, 6))}).min() < 0


def test_options_are_for_one_kind_of_layer():
    with C.default_options_for(Convolution, pad=True):
        f = Convolution2D((3, 3), 2)
    assert f(C.input_variable((1, 6, 6))).shape == (2, 4, 4)


def test_dtype():
    with C.default_options(dtype=np.float64):
        x, p = C.input_variable(2), C.Parameter(2)
        s, y = (
            C.sequence.input_variable(2),
            Dense(3, init=np.eye(2, 3, dtype="f"))(C.input_variable(2)),
        )
    assert x.dtype == p.dtype == s.dtype == y.dtype == np.float64
    assert C.input_variable(2).dtype == np.float32


def test_misuse():
    with pytest.raises(TypeError, match="has no option 'nothing'"):
        get_default_override(Dense, nothing=1)
    with pytest.raises(TypeError, match="takes one option"):
        get_default_override(Dense, init=1, bias=2)


def test_indices_that_count_the_dynamic_axes(monkeypatch):
    """The shapes are CNTK 2.7's, which takes an index of the batch for one of the last axis."""
    x, s = C.input_variable((3, 4)), C.sequence.input_variable((3, 4))
    c = C.constant(np.arange(6).reshape(2, 3))
    monkeypatch.setattr(context(), "options", {})
    C.set_global_option("align_axis", 1)
    value = np.arange(12).reshape(1, 3, 4)
    np.testing.assert_array_equal(x[:, 1].eval({x: value}), value[:, 1:2])
    np.testing.assert_array_equal(x[:, :, 1:3].eval({x: value}), value[:, :, 1:3])
    np.testing.assert_array_equal(x[:, 0, 1].eval({x: value}), value[:, :1, 1:2])
    np.testing.assert_array_equal(x[..., 0].eval({x: value}), value[..., :1])
    assert s[:, :, 2].shape == (1, 4) and x[:].shape == (3, 4)
    np.testing.assert_array_equal(c[1].eval(), [[3, 4, 5]])
    with C.default_options(axis_offset=1):
        assert s[:, 2].shape == (1, 4) and s[:, :, 2].shape == (3, 1)
        assert c[:, 1].shape == (2, 1)
    with pytest.raises(C.GraphError, match="along a dynamic axis"):
        x[1]
