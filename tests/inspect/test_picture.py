"""Pictures of functions: boxes that don't overlap, frames around loops, what boxes say."""

import itertools
import xml.etree.ElementTree as ET

import numpy as np
import pytest

import rgraph as C
from rgraph.inspect.layout import placed
from rgraph.inspect.picture import picture
from tests.recurrences import conv_gru

SVG = "{http://www.w3.org/2000/svg}"


def drawn(f, depth=0):
    """Texts, boxes as (left, top, right, bottom), frames as well."""
    root = ET.fromstring(picture([o.node for o in f.outputs], depth))
    rects = [r for r in root.iter(f"{SVG}rect") if r.get("stroke")]

    def corners(r):
        x, y, w, h = (float(r.get(k)) for k in ("x", "y", "width", "height"))
        return x, y, x + w, y + h

    frames = [corners(r) for r in rects if r.get("stroke-dasharray")]
    boxes = [corners(r) for r in rects if not r.get("stroke-dasharray")]
    texts = ["".join(t.itertext()) for t in root.iter(f"{SVG}text")]
    size = float(root.get("width")), float(root.get("height"))
    return texts, boxes, frames, size


def overlap(a, b):
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def inside(a, b):
    return b[0] <= a[0] and b[1] <= a[1] and a[2] <= b[2] and a[3] <= b[3]


def stacked():
    x = C.sequence.input_variable(5, name="text")
    layers = [C.layers.Recurrence(C.layers.LSTM(4)), C.layers.Recurrence(C.layers.GRU(3))]
    return C.layers.Sequential([*layers, C.sequence.last, C.layers.Dense(2)])(x)


def branches():
    x = C.input_variable((3, 8, 8), name="image")
    parts = [C.layers.Convolution2D((k, k), 4, pad=True)(x) for k in (1, 3, 5)]
    return C.combine([C.splice(*parts, axis=0) + 1, C.reduce_sum(parts[0])])


MODELS = {
    "stacked": (stacked, 2),
    "branches": (branches, 0),
    "convolutional": (lambda: conv_gru(C.sequence.input_variable((2, 5, 4), name="film")), 1),
}


@pytest.mark.parametrize("depth", [0, 1])
@pytest.mark.parametrize("name", MODELS)
def test_boxes_do_not_overlap_and_loops_are_framed(name, depth):
    make, loops = MODELS[name]
    texts, boxes, frames, (width, height) = drawn(make(), depth)
    assert len(frames) == loops
    assert not any(itertools.starmap(overlap, itertools.combinations(boxes, 2)))
    assert not any(itertools.starmap(overlap, itertools.combinations(frames, 2)))
    for frame in frames:
        for box in boxes:
            assert inside(box, frame) or not overlap(box, frame)
    for box in [*boxes, *frames]:
        assert inside(box, (-12, -12, width - 12, height - 12))
    assert texts


def test_layers_are_folded_and_opened():
    x = C.input_variable((3, 8, 8), name="image")
    f = C.layers.Sequential(
        [C.layers.Convolution2D((3, 3), 4, activation=C.relu), C.layers.Dense(2, name="out")]
    )(x)
    folded, boxes, *_ = drawn(f)
    assert {"image", "Convolution", "Dense", "out", "W 4×3×3×3", "b 2"} <= set(folded)
    assert "3×8×8" in folded and len(boxes) == 3  # the shapes stand on the edges
    opened, *_ = drawn(f, 2)  # Convolution2D is a layer around Convolution
    assert {"convolution", "relu", "times"} <= set(opened) and "Dense" not in opened


def test_a_layer_of_several_results_is_one_box():
    x = C.sequence.input_variable(5)
    texts, *_ = drawn(C.layers.Recurrence(C.layers.LSTM(4))(x))
    assert texts.count("LSTM") == 1 and texts.count("past_value") == 2


def test_names_are_no_markup():
    texts, *_ = drawn(C.plus(C.input_variable(1, name="<x&y>"), 1, name='"'))
    assert "<x&y>" in texts and '"' in texts


def test_a_notebook_shows_it_unless_it_is_large():
    f = x = C.input_variable(1)
    assert x.owner is None and C.tanh(x)._repr_svg_().startswith("<svg")
    for _ in range(500):
        f = f + x
    assert f._repr_svg_() is None


def test_a_file(tmp_path):
    C.logging.graph.plot(stacked(), tmp_path / "model.svg")
    assert len(ET.parse(tmp_path / "model.svg").findall(f"{SVG}rect")) > 8


def test_rows_follow_the_edges():
    """A diamond with an edge past a row, by hand."""
    sizes = dict.fromkeys("abcd", (20.0, 10.0))
    layout = placed(sizes, [("a", "b"), ("a", "c"), ("b", "d"), ("c", "d"), ("a", "d")])
    y = {k: p[1] for k, p in layout.centre.items()}
    assert y["a"] < y["b"] == y["c"] < y["d"]
    assert len(layout.via["a", "d"]) == 1 and not layout.via["a", "b"]
    assert np.isclose(layout.centre["a"][0], layout.centre["d"][0], atol=15)
