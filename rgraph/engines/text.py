"""What is found in text, by whichever parser."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass
class Found:
    """A stream's samples: dense rows; or values, their columns, and where each sample ends.

    Attributes:
        lines: on which line each sample is.
    """

    values: np.ndarray
    columns: np.ndarray | None
    ends: np.ndarray | None
    lines: np.ndarray
