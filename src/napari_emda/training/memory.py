"""Where the memory does not suffice for a step: smaller micro-batches, or a sentence that helps."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor

from napari_emda.errors import JobError, is_out_of_memory
from napari_emda.sampling.patches import Batch
from napari_emda.training.trainer import Training


def halve(training: Training, batch: Batch, step: int) -> str:
    """Halve the micro-batches of a training; returns a sentence for the user.

    Args:
        training: whose last step has run out of memory.
        batch: of the step.
        step: its number.

    Raises:
        JobError: not even one patch fits into the memory.
    """
    if training.recorded is not None:
        # It holds the memory of a whole batch.
        training.recorded.forget()
    if training.micro_batches >= training.patches:
        raise JobError(_what_fits(training, batch, step))
    training.micro_batches = min(2 * training.micro_batches, training.patches)
    size = -(-training.patches // training.micro_batches)
    return (
        f"The memory of {training.compute} is full: going on with {size} patches at a time, which "
        "is slower."
    )


def _what_fits(training: Training, batch: Batch, step: int) -> str:
    """What to change if not even one patch fits: the largest patch that does, by trying."""
    side = training.settings.patch
    message = f"Not even one {side}-pixel patch fits the memory of {training.compute}"
    # A recording holds for one size of patches.
    training.recorded = None
    for smaller in range(side - 32, 31, -32):
        corner = partial(_crop, (..., slice(smaller), slice(smaller)))
        cut: Batch = {domain: patches.map(corner) for domain, patches in batch.items()}
        try:
            training.gradients(cut, step / training.settings.steps)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            continue
        return f"{message}: choose patch size {smaller} or less, or a smaller network."
    return f"{message}: choose a smaller network, or device cpu."


def _crop(index: Any, tensor: Tensor) -> Tensor:
    return tensor[index]
