"""Layers: functions with parameters. CNTK's `layers` module."""

from .recurrence import Fold, Recurrence, RecurrenceFrom, UnfoldFrom

__all__ = ["Fold", "Recurrence", "RecurrenceFrom", "UnfoldFrom"]
