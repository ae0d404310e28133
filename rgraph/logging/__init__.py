"""Progress of training, and searching graphs: CNTK's `logging` module."""

from . import graph
from .curves import plot_training
from .graph import find_all_with_name, find_by_name, find_by_uid, plot
from .progress_bar import ProgressBar
from .progress_print import (
    ProgressPrinter,
    TrainingSummaryProgressCallback,
    log_number_of_parameters,
)
from .progress_writer import ProgressWriter
from .tensorboard import TensorBoardProgressWriter
from .trace_level import TraceLevel, get_trace_level, set_trace_level

__all__ = [
    "graph",
    "ProgressBar",
    "ProgressPrinter",
    "ProgressWriter",
    "TensorBoardProgressWriter",
    "TraceLevel",
    "TrainingSummaryProgressCallback",
    "find_all_with_name",
    "find_by_name",
    "find_by_uid",
    "get_trace_level",
    "log_number_of_parameters",
    "plot",
    "plot_training",
    "set_trace_level",
]
