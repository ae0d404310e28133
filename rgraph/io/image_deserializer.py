"""Reads images and their classes from files, zip archives, or a text file in base64."""

from __future__ import annotations

import base64
import binascii
import io
import os
import zipfile
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ..graph import GraphError
from .chunks import Chunk, ChunkInfo, Deserializer, Frames, Part, joined_rows
from .images import VIEWS, Crop, Scale, Transform
from .streams import StreamInformation

if TYPE_CHECKING:
    from ..internal import Record


Location: TypeAlias = Any  # of an image: a path, or where it is in the file


class _Images(Deserializer):
    """The base class of readers of images: a line per image, streams "image" and "label"."""

    _per_chunk = 1

    def __init__(self, filename: str, streams: Mapping[str, Record]) -> None:
        self.filename = os.fspath(filename)
        self._image: StreamInformation | None = None
        self._label: StreamInformation | None = None
        self._transforms: tuple[Transform, ...] = ()
        for i, (name, stream) in enumerate(streams.items()):
            field = stream.get("stream_alias")
            if field == "image":
                self._transforms = tuple(stream.get("transforms") or ())
                shape = self._transforms[-1].shape if self._transforms else ()
                self._image = StreamInformation(name, i, "dense", np.float32, shape)
            elif field == "label":
                if stream.get("dim") is None:
                    raise ValueError(f"stream '{name}' needs the number of classes (shape)")
                self._label = StreamInformation(name, i, "sparse", np.float32, stream.dim)
            else:
                raise ValueError(
                    f"{type(self).__name__} has fields 'image' and 'label', not {field!r}"
                )
        if self._image is None:
            raise ValueError(f"{type(self).__name__} needs a stream with field='image'")
        scales = [t for t in self._transforms if isinstance(t, Scale)]
        self._gray = any(t.channels == 1 for t in scales)
        many = any(isinstance(t, Crop) and t.kind == "multiview10" for t in self._transforms)
        self._views = VIEWS if many else 1

    def stream_infos(self) -> list[StreamInformation]:
        return [s for s in (self._image, self._label) if s is not None]

    @cached_property
    def _lines(self) -> list[tuple[str, int, Location]]:
        """The key, class and location of each image."""
        found = []
        try:
            with open(self.filename, "rb") as file:
                offset = 0
                for number, line in enumerate(file):
                    if line.strip():
                        found.append(self._line(line.rstrip(b"\r\n"), offset, number))
                    offset += len(line)
        except FileNotFoundError:
            raise GraphError(f"there is no file {self.filename}") from None
        if not found:
            raise GraphError(f"{self.filename} is empty")
        return found

    def _line(self, line: bytes, offset: int, number: int) -> tuple[str, int, Location]:
        raise NotImplementedError

    def _class(self, text: bytes, number: int) -> int:
        count = None if self._label is None else self._label.shape[0]
        if not text.strip().isdigit():
            raise GraphError(
                f"{self.filename}, line {number + 1}: {text[:40]!r} is not a class number"
            )
        if count is not None and int(text) >= count:
            raise GraphError(
                f"{self.filename}, line {number + 1}: a class must be from 0 to {count - 1}; got "
                f"{int(text)}"
            )
        return int(text)

    def chunk_infos(self) -> Sequence[ChunkInfo]:
        count, size = len(self._lines), self._per_chunk
        whole = ChunkInfo(size * self._views, size * self._views)
        infos = [whole] * (count // size)
        rest = count % size * self._views
        return [*infos, ChunkInfo(rest, rest)] if rest else infos

    def _rows(self, chunk_id: int) -> list[tuple[str, int, Location]]:
        return self._lines[chunk_id * self._per_chunk : (chunk_id + 1) * self._per_chunk]

    def lengths(self, chunk_id: int) -> np.ndarray:
        return np.ones(len(self._rows(chunk_id)) * self._views, np.int64)

    def keys(self, chunk_id: int) -> Sequence[Hashable]:
        keys = [int(key) if key.isdigit() else key for key, _, _ in self._rows(chunk_id)]
        return [key for key in keys for _ in range(self._views)]

    def get_chunk(self, chunk_id: int) -> Chunk:
        rows = self._rows(chunk_id)
        assert self._image is not None
        parts: dict[str, Part] = {self._image.name: _ImagePart(self, rows)}
        if self._label is not None:
            from scipy.sparse import csr_matrix  # labels are sparse

            classes = np.repeat([c for _, c, _ in rows], self._views)
            ones = np.ones(len(classes), np.float32)
            place = ones, classes, np.arange(len(classes) + 1)
            parts[self._label.name] = Part(csr_matrix(place, (len(classes), self._label.shape[0])))
        return parts

    def _bytes(self, place: Location) -> bytes:
        """Reads the encoded bytes of an image."""
        raise NotImplementedError

    def image(self, place: Location, number: int, view: int) -> np.ndarray:
        """An image (channels, height, width), after all transforms.

        Args:
            number: seeds the random transforms.
        """
        image = self._decoded(place)
        random = np.random.default_rng(number)
        for transform in self._transforms:
            image = transform(image, random, view)
        return np.ascontiguousarray(np.moveaxis(image, -1, 0), np.float32)

    def _decoded(self, place: Location) -> np.ndarray:
        try:
            from PIL import Image
        except ImportError:
            raise ImportError(
                "reading images needs the package Pillow: pip install Pillow"
            ) from None
        try:
            with Image.open(io.BytesIO(self._bytes(place))) as image:
                if self._gray:
                    return np.asarray(image.convert("L"))[:, :, None]
                return np.asarray(image.convert("RGB"))[:, :, ::-1]
        except (OSError, KeyError, zipfile.BadZipFile, binascii.Error) as error:
            raise GraphError(f"{self.filename}: can't read an image: {error}") from None


class _ImagePart(Part):
    """Images that are read on demand."""

    def __init__(self, reader: _Images, rows: list[tuple[str, int, Location]]) -> None:
        self._reader, self._files, self._views = reader, rows, reader._views

    def take(self, indices: np.ndarray, numbers: np.ndarray) -> tuple[Frames, np.ndarray]:
        images = []
        for i, number in zip(indices.tolist(), numbers.tolist(), strict=True):
            _, _, place = self._files[i // self._views]
            images.append(self._reader.image(place, number, i % self._views)[None])
        return joined_rows(images), np.ones(len(images), np.int64)


class ImageDeserializer(_Images):
    """Reads images that a map file lists.

    Args:
        filename: the map file: a line for each image, "path<tab>class" or "key<tab>path<tab>class".
            A path may begin with ".../", the map file's folder; "archive.zip@/path" is a file in
            an archive.
        streams: `C.io.StreamDefs(x=C.io.StreamDef(field="image", transforms=[…]),
            y=C.io.StreamDef(field="label", shape=10))`.

    Images have shape (channels, height, width), with blue as the first channel and values from 0 to
    255; classes are sparse one-hot vectors. Requires Pillow.

    Errors in the files raise `GraphError`, with the line of the map file where there is one.

    Source: CNTK's `ImageDeserializer`.

    >>> streams = C.io.StreamDefs(x=C.io.StreamDef(field="image"))
    >>> C.io.ImageDeserializer("map.txt", streams).stream_infos()[0].name
    'x'
    """

    def _line(self, line: bytes, offset: int, number: int) -> tuple[str, int, Location]:
        parts = line.split(b"\t")
        if len(parts) < 2:
            raise GraphError(
                f"{self.filename}, line {number + 1}: a line must be a path and a class, or a "
                "key, a "
                "path and a class, separated by tabs"
            )
        key, path, label = parts[:3] if len(parts) > 2 else (str(number).encode(), *parts)
        return key.decode(), self._class(label, number), path.decode()

    def _bytes(self, place: str) -> bytes:
        folder = os.path.dirname(os.path.abspath(self.filename))
        path = folder + place[3:] if place.startswith("...") else place
        archive, at, inner = path.partition("@")
        if not at:
            with open(path, "rb") as file:
                return file.read()
        return self._archive(archive)(inner.lstrip("/\\").replace("\\", "/"))

    def _archive(self, path: str) -> Callable[[str], bytes]:
        if path not in self._archives:
            self._archives[path] = zipfile.ZipFile(path)
        return self._archives[path].read

    @cached_property
    def _archives(self) -> dict[str, zipfile.ZipFile]:
        return {}


class Base64ImageDeserializer(_Images):
    """Reads images from a text file in base64.

    Args:
        filename: a line for each image: "class<tab>base64" or "key<tab>class<tab>base64".
        streams: as for `ImageDeserializer`.

    Source: CNTK's `Base64ImageDeserializer`.

    >>> streams = C.io.StreamDefs(x=C.io.StreamDef(field="image"))
    >>> C.io.Base64ImageDeserializer("images.txt", streams).filename
    'images.txt'
    """

    _per_chunk = 256

    def _line(self, line: bytes, offset: int, number: int) -> tuple[str, int, Location]:
        parts = line.split(b"\t", 2)
        if len(parts) < 2:
            raise GraphError(
                f"{self.filename}, line {number + 1}: a line must be a class and an image, "
                "separated "
                "by a tab"
            )
        key, label, image = parts if len(parts) > 2 else (str(number).encode(), *parts)
        begin = offset + len(line) - len(image)
        return key.decode(), self._class(label, number), (begin, len(image))

    def _bytes(self, place: tuple[int, int]) -> bytes:
        with open(self.filename, "rb") as file:
            file.seek(place[0])
            return base64.b64decode(file.read(place[1]).strip(), validate=True)
