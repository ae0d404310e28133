"""What training tells: CNTK's `logging` module."""

from . import graph
from .graph import find_all_with_name, find_by_name, find_by_uid, plot
from .progress_bar import ProgressBar
from .progress_print import (
    ProgressPrinter,
    TrainingSummaryProgressCallback,
    log_number_of_parameters,
)
from .progress_writer import ProgressWriter

__all__ = [
    "graph",
    "ProgressBar",
    "ProgressPrinter",
    "ProgressWriter",
    "TrainingSummaryProgressCallback",
    "find_all_with_name",
    "find_by_name",
    "find_by_uid",
    "log_number_of_parameters",
    "plot",
]
