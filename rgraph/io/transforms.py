"""Transforms of images as they are read, for `StreamDef(field="image", transforms=[…])`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..internal import sanitize_2d_number, sanitize_range

if TYPE_CHECKING:
    from .images import Crop, Mean, Scale, Transform


Range = float | tuple[float, float]


def crop(
    crop_type: str = "center",
    crop_size: int | tuple[int, int] = 0,
    side_ratio: Range = 0.0,
    area_ratio: Range = 0.0,
    aspect_ratio: Range = 1.0,
    jitter_type: str = "none",
) -> Crop:
    """Crops an image.

    Args:
        crop_type: "center"; "randomside" and "randomarea": a random position, and mirrored with
            probability 1/2; "multiview10": the corners and the center, each also mirrored, which
            makes ten samples of each image.
        crop_size: the width and height of the crop; the ratios are ignored then.
        side_ratio: the side of the crop relative to the image's shorter side; or a pair (smallest,
            largest).
        area_ratio: the area of the crop relative to the image's.
        aspect_ratio: the ratio of the crop's width to its height, or of its height to its width.
        jitter_type: "uniratio" draws between the two numbers of a ratio, "none" takes the first.

    Source: CNTK's `transforms.crop`.

    >>> C.io.transforms.crop("randomside", side_ratio=(0.5, 0.8), jitter_type="uniratio").kind
    'randomside'
    """
    from .images import Crop

    return Crop(
        crop_type,
        sanitize_2d_number(crop_size),
        sanitize_range(side_ratio),
        sanitize_range(area_ratio),
        sanitize_range(aspect_ratio),
        jitter_type,
    )


def scale(
    width: int,
    height: int,
    channels: int,
    interpolations: str = "linear",
    scale_mode: str = "fill",
    pad_value: int = -1,
) -> Scale:
    """Scales an image to a given size.

    Args:
        channels: 3, or 1 to read images as grayscale.
        interpolations: "nearest", "linear", "cubic" or "lanczos".
        scale_mode: "fill" ignores the aspect ratio; "crop" keeps it and cuts off the longer side;
            "pad" keeps it and pads the shorter side.
        pad_value: the value of padding; -1: repeats the pixels at the border.

    Source: CNTK's `transforms.scale`, and with it OpenCV's `resize`.

    >>> C.io.transforms.scale(width=32, height=24, channels=3).shape
    (3, 24, 32)
    """
    from .images import Scale

    return Scale(int(width), int(height), int(channels), interpolations, scale_mode, pad_value)


def mean(filename: str) -> Mean:
    """Subtracts a mean image.

    Args:
        filename: an XML file from OpenCV, with MeanImg, Channel, Row and Col.

    Source: CNTK's `transforms.mean`.

    >>> C.io.transforms.mean("mean.xml").filename
    'mean.xml'
    """
    from .images import Mean

    return Mean(filename)


def color(
    brightness_radius: float = 0.0, contrast_radius: float = 0.0, saturation_radius: float = 0.0
) -> Transform:
    """Changes the colors of an image at random.

    Args:
        brightness_radius: adds a random multiple of the image's mean, from -radius to radius.
        contrast_radius: multiplies all values by a random factor from 1 - radius to 1 + radius.
        saturation_radius: multiplies the saturation by such a factor.

    Source: CNTK's `transforms.color`.

    >>> C.io.transforms.color(brightness_radius=0.2).brightness
    0.2
    """
    from .images import Color

    return Color(brightness_radius, contrast_radius, saturation_radius)


__all__ = ["color", "crop", "mean", "scale"]
