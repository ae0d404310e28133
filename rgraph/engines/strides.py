"""How arrays lie in memory."""

from __future__ import annotations

from collections.abc import Sequence


def joined(
    shape: Sequence[int], strides: Sequence[Sequence[int]]
) -> tuple[list[int], list[list[int]]]:
    """Sizes and strides with the axes in the first array's memory order, outermost first, and those
    that lie behind one another in every array joined.

    Args:
        shape: of all the arrays.
        strides: of each array, 0 along what is repeated.
    """
    order = sorted(
        (i for i in range(len(shape)) if shape[i] != 1), key=lambda i: -abs(strides[0][i])
    )
    sizes: list[int] = []
    steps: list[list[int]] = [[] for _ in strides]
    for axis in order:
        size, own = shape[axis], [s[axis] for s in strides]
        if sizes and all(s[-1] == step * size for s, step in zip(steps, own, strict=True)):
            sizes[-1] *= size
            for s, step in zip(steps, own, strict=True):
                s[-1] = step
        else:
            sizes.append(size)
            for s, step in zip(steps, own, strict=True):
                s.append(step)
    return (sizes, steps) if sizes else ([1], [[0] for _ in strides])
