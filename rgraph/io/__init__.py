"""Where minibatches come from: CNTK's `io` module.

Readers of files are imported on first use: `surface.HOMES` lists their modules.
"""

from typing import TYPE_CHECKING

from . import transforms as transforms
from .base import MinibatchData, UserMinibatchSource
from .memory import MinibatchSourceFromData
from .streams import (
    DEFAULT_RANDOMIZATION_WINDOW_IN_CHUNKS,
    FULL_DATA_SWEEP,
    INFINITELY_REPEAT,
    StreamConfiguration,
    StreamDef,
    StreamDefs,
    StreamInformation,
)

if TYPE_CHECKING:
    from .cbf import CBFDeserializer
    from .ctf import CTFDeserializer
    from .htk import HTKFeatureDeserializer
    from .image_deserializer import Base64ImageDeserializer, ImageDeserializer
    from .mlf import HTKMLFDeserializer
    from .mlf_binary import HTKMLFBinaryDeserializer
    from .source import MinibatchSource
    from .text_format import sequence_to_cntk_text_format
    from .user_deserializer import UserDeserializer

__all__ = [
    "DEFAULT_RANDOMIZATION_WINDOW_IN_CHUNKS",
    "FULL_DATA_SWEEP",
    "INFINITELY_REPEAT",
    "Base64ImageDeserializer",
    "CBFDeserializer",
    "CTFDeserializer",
    "HTKFeatureDeserializer",
    "HTKMLFBinaryDeserializer",
    "HTKMLFDeserializer",
    "ImageDeserializer",
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
