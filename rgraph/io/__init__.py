"""Where minibatches come from: CNTK's `io` module."""

from .base import MinibatchData, UserMinibatchSource
from .ctf import CTFDeserializer
from .memory import MinibatchSourceFromData
from .source import MinibatchSource
from .streams import (
    DEFAULT_RANDOMIZATION_WINDOW_IN_CHUNKS,
    FULL_DATA_SWEEP,
    INFINITELY_REPEAT,
    StreamConfiguration,
    StreamDef,
    StreamDefs,
    StreamInformation,
)
from .text_format import sequence_to_cntk_text_format
from .user_deserializer import UserDeserializer

__all__ = [
    "DEFAULT_RANDOMIZATION_WINDOW_IN_CHUNKS",
    "FULL_DATA_SWEEP",
    "INFINITELY_REPEAT",
    "CTFDeserializer",
    "MinibatchData",
    "MinibatchSource",
    "MinibatchSourceFromData",
    "StreamConfiguration",
    "StreamDef",
    "StreamDefs",
    "StreamInformation",
    "UserDeserializer",
    "UserMinibatchSource",
    "sequence_to_cntk_text_format",
]
