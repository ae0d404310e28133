"""Writes CNTK's text format."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..graph.types import ArrayLike


def sequence_to_cntk_text_format(
    seq_idx: int, alias_tensor_map: Mapping[str, ArrayLike | list[dict[int, float]]]
) -> str:
    """A sequence as lines that `CTFDeserializer` reads.

    Args:
        seq_idx: the number of the sequence.
        alias_tensor_map: a dict from stream names in the file to frames: an array (frames, …), or
            a list with a dict from indices to values for each frame.

    Returns:
        the lines, with no line break at the end.

    Source: CNTK's `sequence_to_cntk_text_format`.

    >>> print(C.io.sequence_to_cntk_text_format(0, {"W": np.array([[1, 0], [5, 6]]), "L": [[2]]}))
    0	|L 2 |W 1 0
    0	|W 5 6
    """
    frames = {name: _as_text(name, some) for name, some in sorted(alias_tensor_map.items())}
    lines = []
    for i in range(max(map(len, frames.values()), default=0)):
        parts = [f"{name} {some[i]}" for name, some in frames.items() if i < len(some)]
        lines.append(f"{seq_idx}\t|" + " |".join(parts))
    return "\n".join(lines)


def _as_text(name: str, data: ArrayLike | list[dict[int, float]]) -> list[str]:
    """The values of each frame, as text."""
    if isinstance(data, list) and data and isinstance(data[0], dict):
        return [" ".join(f"{k}:{v}" for k, v in sorted(frame.items())) for frame in data]
    array = np.asarray(data)
    if array.dtype.kind not in "biuf":
        raise ValueError(
            f"'{name}' must be an array (frames, …) of numbers, or a list of dicts from indices to "
            f"values; got {type(data).__name__}"
        )
    return [" ".join(str(v) for v in frame.ravel().tolist()) for frame in array]
