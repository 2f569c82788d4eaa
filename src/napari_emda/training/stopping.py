"""Saving a training that is stopped, for somebody who waits.

What `between_steps.save` and `between_steps.select` measure besides takes as long as a hundred
steps: half a minute or more on a laptop. Here it takes as long as a few, and a second at most.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from napari_emda.inference import checkpoint
from napari_emda.training import model_selection
from napari_emda.training.target_statistics import VALIDATION_BATCHES
from napari_emda.training.trainer import Training

# Seconds of processor time for what is measured: a stop takes three at most, and writing the files
# takes one or two.
_MEASURING = 1.0


def soon() -> Callable[[], bool]:
    """A function that says whether the time for measuring, from now on, is used up."""
    until = time.process_time() + _MEASURING
    return lambda: time.process_time() > until


def save_soon(training: Training, step: int, enough: Callable[[], bool]) -> None:
    """Write the checkpoint of the last step.

    The weights are on disk at once. What the predictor needs is measured afterwards, less closely
    than for other checkpoints, and not at all if somebody is in a hurry.

    Args:
        training: that is stopped.
        step: its last one.
        enough: see `soon`.
    """
    training.write(step, in_haste=True)
    if not training.measures_target() or training.hurry():
        return
    method = training.method
    for _ in training.measure_statistics(method, VALIDATION_BATCHES, enough):
        pass
    # The class shares of an earlier checkpoint are close to those of this one.
    if not training.measured:
        measuring = training.calibrate(method)
        for _ in measuring:
            # Shares of few tiles may be far off: without all of them, the classes stay as they are.
            if enough():
                measuring.close()
    training.write(step, in_haste=True)


def select_soon(training: Training, enough: Callable[[], bool]) -> None:
    """Write the selected model, unless it is that of the last step or somebody is in a hurry.

    It has the class shares and the scores of the models that it is the average of.

    Args:
        training: that is stopped.
        enough: see `soon`.
    """
    folder = training.folder
    selected = None
    if not training.hurry():
        selected = model_selection.selected(folder, training.state, training.method.summary)
    if selected is None:
        folder.selected.unlink(missing_ok=True)
        return
    header, state, method = selected
    method.to(training.compute.device)
    # The mean of several models' statistics is not that of the averaged weights.
    if training.measures_target() and len(header.selected) > 1:
        for _ in training.measure_statistics(method, VALIDATION_BATCHES, enough):
            pass
    checkpoint.save(folder.selected, header, method, training=state)
