"""What the streams of a source are: their names, shapes and kinds, and how a file has them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..internal import Record

INFINITELY_REPEAT = 2**64 - 1  # as max_samples: start again at the end of the data, for ever
FULL_DATA_SWEEP = 2**64 - 2  # as max_samples: stop at the end of the data
DEFAULT_RANDOMIZATION_WINDOW_IN_CHUNKS = 128


@dataclass(frozen=True)
class StreamInformation:
    """One of the things that a source gives: features, labels and so on.

    Attributes:
        name: by which `source.streams.name` finds it.
        stream_id: its number.
        storage_format: "dense" or "sparse".
        dtype: of its numbers.
        shape: one sample's or frame's.
        defines_mb_size: whether the size of a minibatch counts its samples alone.

    >>> C.io.StreamInformation("x", 0, "dense", np.float32, (3,)).shape
    (3,)
    """

    name: str = ""
    stream_id: int = 0
    storage_format: str = "dense"
    dtype: Any = np.float32
    shape: tuple[int, ...] = ()
    defines_mb_size: bool = False

    def __post_init__(self) -> None:
        if self.storage_format not in ("dense", "sparse"):
            raise ValueError(
                f"stream '{self.name}' is stored 'dense' or 'sparse', not {self.storage_format!r}"
            )
        object.__setattr__(self, "shape", as_shape(self.shape))

    @property
    def is_sparse(self) -> bool:
        """Whether it is stored as sparse matrices."""
        return self.storage_format == "sparse"

    @property
    def m_name(self) -> str:
        """As `name`."""
        return self.name

    @property
    def m_id(self) -> int:
        """As `stream_id`."""
        return self.stream_id

    @property
    def m_storage_format(self) -> str:
        """As `storage_format`."""
        return self.storage_format

    @property
    def m_element_type(self) -> Any:
        """As `dtype`."""
        return self.dtype

    @property
    def m_sample_layout(self) -> tuple[int, ...]:
        """As `shape`."""
        return self.shape

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """As `shape`."""
        return self.shape

    @property
    def m_defines_mb_size(self) -> bool:
        """As `defines_mb_size`."""
        return self.defines_mb_size

    @property
    def m_is_binary(self) -> bool:
        """Whether it is a stream of bytes; none is."""
        return False


def as_shape(shape: int | Sequence[int]) -> tuple[int, ...]:
    """A number stands for a vector's size."""
    if isinstance(shape, (int, np.integer)):
        return (int(shape),)
    return tuple(int(n) for n in shape)


def StreamDef(
    field: str | None = None,
    shape: int | Sequence[int] | None = None,
    is_sparse: bool = False,
    transforms: Sequence[Any] | None = None,
    context: tuple[int, int] | None = None,
    scp: str | Sequence[str] | None = None,
    mlf: str | Sequence[str] | None = None,
    broadcast: bool | None = None,
    defines_mb_size: bool = False,
    max_sequence_length: int = 65535,
) -> Record:
    """How a file has a stream.

    Args:
        field: its name in the file; of images "image" or "label".
        shape: a sample's size.
        is_sparse: whether the file has it as index:value pairs.
        transforms: what is done to images, in this order; see `C.io.transforms`.
        context: of HTK features: how many frames before and after are given along.
        scp, mlf: the list files of HTK features or labels.
        broadcast: of HTK features: one frame for all frames of an utterance.
        defines_mb_size: whether the size of a minibatch counts this stream's samples alone; by
            default those of each sequence's longest stream.
        max_sequence_length: of HTK features: longer utterances are left out.

    Source: CNTK's `StreamDef`.

    >>> C.io.StreamDef(field="S0", shape=3).dim
    3
    """
    config: dict[str, Any] = {"stream_alias": field, "is_sparse": is_sparse}
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
    """A stream of a text file, as CNTK's C++ library has it; `StreamDef` is what programs use.

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
