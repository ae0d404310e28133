"""The streams of a source: names, shapes and types, and how files store them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..graph.types import DTypeLike
from ..internal import Record

if TYPE_CHECKING:
    from .images import Transform


INFINITELY_REPEAT = 2**64 - 1  # as max_samples: repeat the data without end
FULL_DATA_SWEEP = 2**64 - 2  # as max_samples: all data once
DEFAULT_RANDOMIZATION_WINDOW_IN_CHUNKS = 128


@dataclass(frozen=True)
class StreamInformation:
    """A stream of a source: features, labels and so on.

    Attributes:
        name: its name, as in `source.streams.name`.
        stream_id: its number.
        storage_format: "dense" or "sparse".
        dtype: the type of its values.
        shape: the shape of a sample or frame.
        defines_mb_size: whether the minibatch size counts the samples of this stream.

    >>> C.io.StreamInformation("x", 0, "dense", np.float32, (3,)).shape
    (3,)
    """

    name: str = ""
    stream_id: int = 0
    storage_format: str = "dense"
    dtype: DTypeLike = np.float32
    shape: tuple[int, ...] = ()
    defines_mb_size: bool = False

    def __post_init__(self) -> None:
        if self.storage_format not in ("dense", "sparse"):
            raise ValueError(
                f"stream '{self.name}': storage_format must be 'dense' or 'sparse', got "
                f"{self.storage_format!r}"
            )
        object.__setattr__(self, "shape", as_shape(self.shape))

    @property
    def is_sparse(self) -> bool:
        """Whether its samples are sparse vectors."""
        return self.storage_format == "sparse"

    @property
    def m_name(self) -> str:
        """Same as `name`."""
        return self.name

    @property
    def m_id(self) -> int:
        """Same as `stream_id`."""
        return self.stream_id

    @property
    def m_storage_format(self) -> str:
        """Same as `storage_format`."""
        return self.storage_format

    @property
    def m_element_type(self) -> DTypeLike:
        """Same as `dtype`."""
        return self.dtype

    @property
    def m_sample_layout(self) -> tuple[int, ...]:
        """Same as `shape`."""
        return self.shape

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Same as `shape`."""
        return self.shape

    @property
    def m_defines_mb_size(self) -> bool:
        """Same as `defines_mb_size`."""
        return self.defines_mb_size

    @property
    def m_is_binary(self) -> bool:
        """Always False: there are no streams of bytes."""
        return False


def as_shape(shape: int | Sequence[int]) -> tuple[int, ...]:
    """A shape as a tuple; a number is the size of a vector."""
    if isinstance(shape, (int, np.integer)):
        return (int(shape),)
    return tuple(int(n) for n in shape)


def StreamDef(
    field: str | None = None,
    shape: int | Sequence[int] | None = None,
    is_sparse: bool = False,
    transforms: Sequence[Transform] | None = None,
    context: tuple[int, int] | None = None,
    scp: str | Sequence[str] | None = None,
    mlf: str | Sequence[str] | None = None,
    broadcast: bool | None = None,
    defines_mb_size: bool = False,
    max_sequence_length: int = 65535,
) -> Record:
    """How a stream is stored in a file.

    Args:
        field: the name of the stream in the file; for images "image" or "label".
        shape: the number of values in a sample.
        is_sparse: whether it is stored as index:value pairs.
        transforms: for images: the transforms to apply, in this order; see `C.io.transforms`.
        context: for HTK features: the numbers of neighboring frames before and after to add.
        scp, mlf: the list files of HTK features or labels.
        broadcast: for HTK features: repeats the utterance's single frame for all its frames.
        defines_mb_size: whether the minibatch size counts the samples of this stream; by default
            those of the longest stream of each sequence.
        max_sequence_length: for HTK features: longer utterances are left out.

    Source: CNTK's `StreamDef`.

    >>> C.io.StreamDef(field="S0", shape=3).dim
    3
    """
    config: dict[str, object] = {"stream_alias": field, "is_sparse": is_sparse}
    given = {"dim": shape, "transforms": transforms, "context": context, "scp": scp}
    given |= {"mlf": mlf, "broadcast": broadcast}
    config |= {key: value for key, value in given.items() if value is not None}
    if mlf is not None:
        config["is_sparse"] = True
    config["defines_mb_size"] = bool(defines_mb_size)
    config["max_sequence_length"] = max_sequence_length
    return Record(**config)


StreamDefs = Record


class StreamConfiguration:
    """A stream of a text file, as in CNTK's C++ library; programs should use `StreamDef`.

    >>> C.io.StreamConfiguration("x", 3, stream_alias="S0").m_dim
    3
    """

    def __init__(
        self,
        name: str,
        dim: int,
        is_sparse: bool = False,
        stream_alias: str = "",
        defines_mb_size: bool = False,
    ) -> None:
        self.m_stream_name, self.m_dim, self.m_is_sparse = name, dim, is_sparse
        self.m_stream_alias, self.m_defines_mb_size = stream_alias, defines_mb_size
