"""What is done to images as they are read: for `StreamDef(field="image", transforms=[…])`."""

from __future__ import annotations

from typing import Any

from ..internal import sanitize_2d_number, sanitize_range

Range = float | tuple[float, float]


def crop(
    crop_type: str = "center",
    crop_size: int | tuple[int, int] = 0,
    side_ratio: Range = 0.0,
    area_ratio: Range = 0.0,
    aspect_ratio: Range = 1.0,
    jitter_type: str = "none",
) -> Any:
    """Cuts a part out of an image.

    Args:
        crop_type: "center"; "randomside" and "randomarea": anywhere, and mirrored in half of the
            cases; "multiview10": the corners and the center, each mirrored too, which makes ten
            samples of each image.
        crop_size: the part's width and height; the ratios don't matter then.
        side_ratio: the part's side over the image's shorter one; or a pair, from which to choose.
        area_ratio: the part's area over the image's.
        aspect_ratio: of the part's width to its height, or the other way round.
        jitter_type: "uniratio" chooses between the two numbers of a ratio, "none" takes the first.

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
) -> Any:
    """Brings an image to a size.

    Args:
        channels: 3, or 1 to read images as gray.
        interpolations: "nearest", "linear", "cubic" or "lanczos".
        scale_mode: "fill" distorts it; "crop" cuts off what is too long; "pad" adds what lacks.
        pad_value: what "pad" adds; -1: the pixels at the border.

    Source: CNTK's `transforms.scale`, and with it OpenCV's `resize`.

    >>> C.io.transforms.scale(width=32, height=24, channels=3).shape
    (3, 24, 32)
    """
    from .images import Scale

    return Scale(int(width), int(height), int(channels), interpolations, scale_mode, pad_value)


def mean(filename: str) -> Any:
    """Subtracts a mean image.

    Args:
        filename: an XML file of OpenCV's, with MeanImg, Channel, Row and Col.

    Source: CNTK's `transforms.mean`.

    >>> C.io.transforms.mean("mean.xml").filename
    'mean.xml'
    """
    from .images import Mean

    return Mean(filename)


def color(
    brightness_radius: float = 0.0, contrast_radius: float = 0.0, saturation_radius: float = 0.0
) -> Any:
    """Changes an image's colors at random.

    Args:
        brightness_radius: up to how much of the image's mean is added or taken away.
        contrast_radius: up to how much all values are multiplied by more or less than 1.
        saturation_radius: the same for the saturation.

    Source: CNTK's `transforms.color`.

    >>> C.io.transforms.color(brightness_radius=0.2).brightness
    0.2
    """
    from .images import Color

    return Color(brightness_radius, contrast_radius, saturation_radius)


__all__ = ["color", "crop", "mean", "scale"]
