"""Transforms of images: arrays (height, width, channels), blue first, as in OpenCV."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..graph import GraphError
from .resizing import KERNELS, Image, resized

Ratio = tuple[float, float]
VIEWS = 10  # crops of each image with crop_type="multiview10"


class Transform:
    """The base class of transforms.

    Attributes:
        shape: the shape of the resulting images, if it is the same for all.
    """

    shape: tuple[int, ...] = ()

    def __call__(self, image: Image, random: np.random.Generator, view: int) -> Image:
        raise NotImplementedError


@dataclass(frozen=True)
class Crop(Transform):
    """See `transforms.crop`."""

    kind: str
    size: tuple[int, int]
    side: Ratio
    area: Ratio
    aspect: Ratio
    jitter: str

    def __post_init__(self) -> None:
        _one_of("crop_type", self.kind, "center", "randomside", "randomarea", "multiview10")
        _one_of("jitter_type", self.jitter, "none", "uniratio")
        for name, (low, high) in {"side_ratio": self.side, "area_ratio": self.area}.items():
            if (low or high) and not 0 < low <= high <= 1:
                raise GraphError(
                    f"{name} must be from 0 to 1, the smaller value first; got {(low, high)}"
                )
        if not 0 < self.aspect[0] <= self.aspect[1]:
            raise GraphError(
                f"aspect_ratio must be above 0, the smaller value first; got {self.aspect}"
            )
        if min(self.size) < 0 or any(self.side) and any(self.area):
            raise GraphError(
                "a crop needs a crop_size of at least 0, a side_ratio or an area_ratio"
            )
        needs = {"randomside": self.side, "randomarea": self.area}.get(self.kind)
        if needs is not None and not any(needs) and not all(self.size):
            raise GraphError(f"crop_type '{self.kind}' needs {self.kind[6:]}_ratio or crop_size")

    def __call__(self, image: Image, random: np.random.Generator, view: int) -> Image:
        height, width = image.shape[:2]
        w, h = self._size_in(width, height, random)
        x, y = (width - w) // 2, (height - h) // 2
        mirrored = False
        if self.kind.startswith("random"):
            x, y = (int(random.integers(0, n, endpoint=True)) for n in (width - w, height - h))
            mirrored = random.random() < 0.5
        elif self.kind == "multiview10":
            corner, mirrored = view % 5, view >= 5
            if corner < 4:
                x, y = (width - w) * (corner % 2), (height - h) * (corner // 2)
        part = image[y : y + h, x : x + w]
        return part[:, ::-1] if mirrored else part

    def _size_in(self, width: int, height: int, random: np.random.Generator) -> tuple[int, int]:
        """The width and height of the crop; the whole image if no crop fits."""
        if all(self.size):
            return min(width, self.size[0]), min(height, self.size[1])
        for _ in range(10):
            w, h = width, height
            if any(self.side):
                w = h = _rounded(min(width, height) * self._chosen(self.side, random))
            elif any(self.area):
                w = h = _rounded((width * height * self._chosen(self.area, random)) ** 0.5)
            aspect = self._chosen(self.aspect, random)
            if aspect != 1:
                long, short = int((w * h * aspect) ** 0.5), int((w * h / aspect) ** 0.5)
                w, h = (long, short) if random.random() < 0.5 else (short, long)
            if w <= width and h <= height:
                return w, h
        return width, height

    def _chosen(self, ratio: Ratio, random: np.random.Generator) -> float:
        return ratio[0] if self.jitter == "none" else float(random.uniform(*ratio))


@dataclass(frozen=True)
class Scale(Transform):
    """See `transforms.scale`."""

    width: int
    height: int
    channels: int
    kernel: str
    mode: str
    pad_value: int

    def __post_init__(self) -> None:
        _one_of("interpolations", self.kernel, *KERNELS)
        _one_of("scale_mode", self.mode, "fill", "crop", "pad")
        if min(self.width, self.height) < 1 or self.channels not in (1, 3) or self.pad_value < -1:
            raise GraphError(
                "scale needs a width and a height, 1 or 3 channels, and a pad_value of at least -1"
            )

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        return self.channels, self.height, self.width

    def __call__(self, image: Image, random: np.random.Generator, view: int) -> Image:
        if self.mode == "fill":
            return resized(image, self.width, self.height, self.kernel)
        height, width = image.shape[:2]
        by_width = width < height if self.mode == "crop" else width > height
        w, h = self.width, self.height
        if by_width:
            h = _rounded(height * self.width / width)
        else:
            w = _rounded(width * self.height / height)
        image = resized(image, w, h, self.kernel)
        x, y = (w - self.width) // 2, (h - self.height) // 2
        if self.mode == "crop":
            if x < 0 or y < 0:
                raise GraphError(f"an image of {width}x{height} does not fill {self.shape}")
            return image[y : y + self.height, x : x + self.width]
        left, top = (self.width - w) // 2, (self.height - h) // 2
        if left < 0 or top < 0:
            raise GraphError(f"an image of {width}x{height} does not fit into {self.shape}")
        around = (top, self.height - h - top), (left, self.width - w - left), (0, 0)
        if self.pad_value < 0:
            return np.pad(image, around, "edge")
        return np.pad(image, around, constant_values=self.pad_value)


@dataclass(frozen=True)
class Mean(Transform):
    """See `transforms.mean`."""

    filename: str

    @cached_property
    def _mean(self) -> Image:
        from xml.etree import ElementTree  # imported only for mean images

        try:
            root = ElementTree.parse(os.fspath(self.filename)).getroot()
            values = np.array((root.findtext("MeanImg/data") or "").split(), np.float32)
            sizes = [int(root.findtext(name) or 0) for name in ("Row", "Col", "Channel")]
            return values.reshape(sizes)
        except (OSError, ElementTree.ParseError, ValueError) as error:
            raise GraphError(f"{self.filename} has no mean image: {error}") from None

    def __call__(self, image: Image, random: np.random.Generator, view: int) -> Image:
        if image.shape != self._mean.shape:
            raise GraphError(
                f"{self.filename} has a mean image of shape {self._mean.shape}, but an image is "
                f"{image.shape} (height, width, channels)"
            )
        return image.astype(np.float32) - self._mean


@dataclass(frozen=True)
class Color(Transform):
    """See `transforms.color`."""

    brightness: float
    contrast: float
    saturation: float

    def __post_init__(self) -> None:
        if not all(0 <= r <= 1 for r in (self.brightness, self.contrast, self.saturation)):
            raise GraphError("the radius of a color transform must be from 0 to 1")

    def __call__(self, image: Image, random: np.random.Generator, view: int) -> Image:
        image = image.astype(np.float32)
        draws = random.uniform(-1, 1, 3) * (self.brightness, self.contrast, self.saturation)
        if self.brightness or self.contrast:
            more = draws[0] * image.mean(dtype=float)
            image = np.clip(image * np.float32(1 + draws[1]) + np.float32(more), 0, 255)
        if self.saturation and image.shape[-1] == 3:
            image = _saturated(image, 1 + draws[2])
        return image


def _saturated(image: Image, ratio: float) -> Image:
    """Multiplies the saturation in HSV, limited to 1; hue and value stay the same."""
    value = image.max(-1, keepdims=True)
    spread = value - image.min(-1, keepdims=True)
    saturation = np.divide(spread, value, out=np.zeros_like(value), where=value > 0)
    wanted = np.minimum(saturation * np.float32(ratio), 1)
    factor = np.divide(wanted, saturation, out=np.ones_like(wanted), where=saturation > 0)
    return value - (value - image) * factor


def _rounded(x: float) -> int:
    """Rounds to the nearest integer, halves away from zero, like C's `round`."""
    return int(np.floor(x + 0.5))


def _one_of(name: str, given: str, *known: str) -> None:
    if given not in known:
        raise GraphError(f"{name} must be one of {', '.join(known)}; got {given!r:.40}")
