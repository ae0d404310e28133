"""Training loops: CNTK's `train` module."""

from .trainer import Trainer

__all__ = ["Trainer"]
