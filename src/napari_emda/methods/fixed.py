"""The model of another program as a run of a project."""

from __future__ import annotations

from torch import Tensor

from napari_emda.errors import JobError
from napari_emda.methods.base import Method, methods
from napari_emda.nn.networks.fixed import UNTRAINABLE
from napari_emda.sampling.patches import Batch
from napari_emda.settings.requirements import FIXED, Requirements


@methods.register(FIXED, listed=False)
class FixedModel(Method):
    """Predicts as it is: the model of another program, which learns nothing."""

    requirements = Requirements(domains=("target",), model="classes")

    def losses(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """There is nothing to train."""
        raise JobError(UNTRAINABLE)
