"""Training curves."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from ..graph import GraphError


def plot_training(
    progress: Any, filename: str | os.PathLike[str] | None = None, title: str = ""
) -> Any:
    """Draws loss and metric over the number of samples. Requires matplotlib.

    A thin line shows the means of groups of minibatches, dots show those of epochs.

    Args:
        progress: the result of `Function.train`; or a dict from names to results, to compare runs.
        filename: a file to save the picture to; its extension is the format (svg, png, pdf).
        title: the title of the picture.

    Returns:
        matplotlib's `Figure`.

    Raises:
        GraphError: matplotlib is missing, or there is nothing to draw.

    >>> x, t = C.input_variable(1), C.input_variable(1)
    >>> loss = C.squared_error(C.layers.Dense(1)(x), t)
    >>> data = np.ones((8, 1)), np.zeros((8, 1))
    >>> progress = loss.train(data, parameter_learners=C.sgd(loss.parameters, 0.1), max_epochs=3)
    >>> len(C.logging.plot_training(progress).axes)
    1
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise GraphError(
            "plot_training needs matplotlib, which is not installed", hint="pip install matplotlib"
        ) from None
    runs: Mapping[str, Any] = progress if isinstance(progress, Mapping) else {"": progress}
    if not any(run.updates or run.epoch_summaries for run in runs.values()):
        raise GraphError("there is nothing to draw: training processed no minibatch")
    has_metric = any(s.metric for r in runs.values() for s in (*r.updates, *r.epoch_summaries))
    what = ["loss", "metric"] if has_metric else ["loss"]
    figure = Figure(figsize=(7, 2.6 * len(what)), layout="constrained")
    panels = figure.subplots(len(what), 1, sharex=True, squeeze=False)[:, 0]
    for name, panel in zip(what, panels, strict=True):
        for number, (run, found) in enumerate(runs.items()):
            colour = f"C{number}"
            panel.plot(*_points(found.updates, name), "-", color=colour, linewidth=1, label=run)
            if len(found.epoch_summaries) > 1:
                epochs = _points(found.epoch_summaries, name)
                panel.plot(*epochs, "o", color=colour, markersize=4)
        panel.set_ylabel(name)
        panel.grid(alpha=0.3)
    panels[-1].set_xlabel("samples")
    panels[0].set_title(title)
    if any(runs):
        panels[0].legend()
    if filename is not None:
        figure.savefig(filename)
    return figure


def _points(summaries: Sequence[Any], name: str) -> tuple[list[int], list[float]]:
    """The last sample and the mean of each summary."""
    return list(accumulate(s.samples for s in summaries)), [s[name] for s in summaries]
