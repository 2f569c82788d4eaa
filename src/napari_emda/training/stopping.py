"""Saving a training that is stopped, for somebody who waits.

What `between_steps.save` and `between_steps.select` measure besides takes as long as a hundred
steps: half a minute or more on a laptop. Here it takes as long as a few.
"""

from __future__ import annotations

from napari_emda.inference import checkpoint
from napari_emda.training import model_selection
from napari_emda.training.target_statistics import VALIDATION_BATCHES
from napari_emda.training.trainer import Training


def save_soon(training: Training, step: int) -> None:
    """Write the checkpoint of the last step.

    The weights are on disk at once. What the predictor needs is measured afterwards, less closely
    than for other checkpoints, and not at all if somebody is in a hurry.
    """
    training.write(step)
    if not training.measures_target() or training.hurry():
        return
    if training.measured:
        # The class shares of the checkpoint before are close to those of this one.
        training.measure_statistics(training.method, VALIDATION_BATCHES)
    else:
        training.measure(training.method, VALIDATION_BATCHES)
    training.write(step)


def select_soon(training: Training) -> None:
    """Write the selected model, unless it is that of the last step or somebody is in a hurry.

    It has the class shares and the scores of the models that it is the average of.
    """
    folder = training.folder
    selected = None
    if not training.hurry():
        selected = model_selection.selected(folder, training.state)
    if selected is None:
        folder.selected.unlink(missing_ok=True)
        return
    header, state, method = selected
    method.to(training.compute.device)
    # The mean of several models' statistics is not that of the averaged weights.
    if training.measures_target() and len(header.selected) > 1:
        training.measure_statistics(method, VALIDATION_BATCHES)
    checkpoint.save(folder.selected, header, method, training=state)
