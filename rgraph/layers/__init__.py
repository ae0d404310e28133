"""Layers: functions with parameters. CNTK's `layers` module."""

from . import typing
from .attention import AttentionModel
from .basic import Activation, Dense, Dropout, Embedding, Label, identity
from .blocks import GRU, LSTM, ForwardDeclaration, RNNStep, RNNUnit, Stabilizer
from .convolutional import (
    Convolution,
    Convolution1D,
    Convolution2D,
    Convolution3D,
    ConvolutionTranspose,
    ConvolutionTranspose1D,
    ConvolutionTranspose2D,
    ConvolutionTranspose3D,
    SequentialConvolution,
)
from .convolutional_cells import ConvolutionalGRU, ConvolutionalLSTM
from .higher_order_layers import For, ResNetBlock, Sequential, SequentialClique
from .normalization import BatchNormalization, LayerNormalization
from .poolings import (
    AveragePooling,
    GlobalAveragePooling,
    GlobalMaxPooling,
    MaxPooling,
    MaxUnpooling,
)
from .sequence import Delay, Fold, PastValueWindow, Recurrence, RecurrenceFrom, UnfoldFrom
from .typing import ParameterTensor, Sequence, SequenceOver, Signature, SparseTensor, Tensor

from ..ops import sequence  # isort: skip  # as in CNTK, whose layers.sequence is a module, too

__all__ = [
    "GRU",
    "LSTM",
    "Activation",
    "AttentionModel",
    "AveragePooling",
    "BatchNormalization",
    "Convolution",
    "Convolution1D",
    "Convolution2D",
    "Convolution3D",
    "ConvolutionTranspose",
    "ConvolutionTranspose1D",
    "ConvolutionTranspose2D",
    "ConvolutionTranspose3D",
    "ConvolutionalGRU",
    "ConvolutionalLSTM",
    "Delay",
    "Dense",
    "Dropout",
    "Embedding",
    "Fold",
    "For",
    "ForwardDeclaration",
    "GlobalAveragePooling",
    "GlobalMaxPooling",
    "Label",
    "LayerNormalization",
    "MaxPooling",
    "MaxUnpooling",
    "ParameterTensor",
    "PastValueWindow",
    "RNNStep",
    "RNNUnit",
    "Recurrence",
    "RecurrenceFrom",
    "ResNetBlock",
    "Sequence",
    "SequenceOver",
    "Sequential",
    "SequentialClique",
    "SequentialConvolution",
    "Signature",
    "SparseTensor",
    "Stabilizer",
    "Tensor",
    "UnfoldFrom",
    "identity",
    "typing",
]
