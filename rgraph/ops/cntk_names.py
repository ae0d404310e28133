"""CNTK's names of operations, for `Function.op_name`."""

from __future__ import annotations

from collections.abc import Callable

from ..graph import Node

_REDUCTIONS = ("sum", "mean", "max", "min", "prod", "log_sum_exp")

# Only names that do not follow from the record. Operations that CNTK composes of others keep the
# names of their records.
CNTK_NAMES: dict[str, str | Callable[[Node], str]] = {
    **{f"reduce_{name}": "ReduceElements" for name in _REDUCTIONS},
    "alias": "NoOp",
    "argmax": "ReduceElements",
    "argmin": "ReduceElements",
    "convolution_transpose": "Convolution",
    "delay": lambda node: "PastValue" if node.attrs["offset"] > 0 else "FutureValue",
    "element_select": "Select",
    "ends": "Sequence::Slice",
    "fill_like": "ConstantOp",
    "log_add_exp": "LogPlus",
    "one_hot": "OneHotOp",
    "outside": lambda node: f"Sequence::Is{'First' if node.attrs['offset'] > 0 else 'Last'}",
    "pool_mean": "Pooling",
    "pool_pick": "Pooling",
    "random": "RandomDistribution",
    "relu": "ReLU",
    "roi_take": "ROIPooling",
    "sequence_gather": "Sequence::Gather",
    "sequence_scatter": "Sequence::Scatter",
    "sequence_unpack": "UnpackSequenceOp",
    "sigmoid": "StableSigmoid",
    "spread": "Sequence::BroadcastAs",
    "to_batch": "ToBatchAxis",
    "transpose": "TransposeAxes",
    "unpack_batch": "UnpackBatchAxis",
}


def cntk_name(node: Node) -> str:
    """CNTK's name of an operation; by default that of its record in CamelCase."""
    assert node.op is not None
    name = node.op.name
    known = CNTK_NAMES.get(name) or "".join(word.capitalize() for word in name.split("_"))
    return known if isinstance(known, str) else known(node)
