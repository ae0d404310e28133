"""What training tells: CNTK's `logging` module."""

from .progress_bar import ProgressBar
from .progress_print import (
    ProgressPrinter,
    TrainingSummaryProgressCallback,
    log_number_of_parameters,
)
from .progress_writer import ProgressWriter
