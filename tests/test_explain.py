"""What `explain` says a plan costs, counted by hand."""

import numpy as np
import pytest

import rgraph as C


@pytest.mark.parametrize("tail", [C.relu, lambda y: C.tanh(y + np.ones(4, np.float32))])
def test_the_operations_of_a_product_and_what_follows_it(tail):
    x = C.input_variable(3)
    product = C.times(x, C.Parameter((3, 4), init=1))
    assert "in all 2.4e-05 MFLOP a row" in product.explain()  # 3 * 4 products, as many sums
    after = 4 if tail is C.relu else 8
    assert f"in all {(24 + after) / 1e6:.3g} MFLOP a row" in tail(product).explain()


def test_the_operations_of_a_convolution_and_what_follows_it():
    x = C.input_variable((2, 5, 5))
    y = C.convolution(C.Parameter((3, 2, 3, 3), init=1), x)
    work = 2 * 3 * 2 * 9 * 25
    assert f"in all {work / 1e6:.3g} MFLOP a row" in y.explain()
    assert f"in all {(work + 75) / 1e6:.3g} MFLOP a row" in C.relu(y).explain()
