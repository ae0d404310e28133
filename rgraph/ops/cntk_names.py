"""What CNTK calls the operations whose records have another name: `Function.op_name`."""

from __future__ import annotations

from collections.abc import Callable

from ..graph import Node

_REDUCTIONS = ("sum", "mean", "max", "min", "prod", "log_sum_exp")

# CNTK builds some of its operations of others; these have the names of their records.
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
    """The kind of an operation under CNTK's name, by default its record's in capitals."""
    assert node.op is not None
    name = node.op.name
    known = CNTK_NAMES.get(name) or "".join(word.capitalize() for word in name.split("_"))
    return known if isinstance(known, str) else known(node)
