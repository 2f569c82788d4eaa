"""Consistency with a mean teacher on the unlabelled target."""

import copy
from dataclasses import replace
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from napari_emda.data.volume import IGNORE
from napari_emda.methods.base import DataSummary, Method, methods, ramp
from napari_emda.nn.network import Network
from napari_emda.nn.normalisation import in_domain
from napari_emda.nn.teacher import PriorAlignment, predict_as_teacher, update_average
from napari_emda.sampling.augmentation import Augmentation
from napari_emda.sampling.patches import Batch
from napari_emda.settings import base
from napari_emda.settings.requirements import Requirements


@methods.register("mean_teacher")
class MeanTeacher(Method):
    """Learns from its own confident predictions on the target, made by an averaged teacher.

    Tarvainen & Valpola 2017 with the confident pseudo-labels of FixMatch (Sohn et al. 2020):
    the teacher sees the clean target patch, the student the same patch with contrast, blur and
    noise changed. Pseudo-labels are aligned with the class proportions of the source, so that a
    rare class does not vanish. Their weight rises between a quarter and half of the training.
    """

    citations = ("tarvainen2017", "sohn2020")
    requirements = Requirements(domains=("source", "target"), labels="needed")
    unlabelled_losses = ("consistency",)

    class Settings(base.Settings):
        """Settings of the mean teacher."""

        confidence: float = Field(
            0.8,
            ge=0.5,
            le=0.999,
            title="certainty needed",
            description="How sure the teacher has to be of a pixel (its probability) for the "
            "network to learn from that. Raise it if mistakes are learnt; lower it if little is "
            "found.",
            json_schema_extra={"step": 0.05},
        )
        weight: float = Field(
            0.5,
            ge=0,
            le=10,
            title="strength of adaptation",
            description="How much the teacher's answers in the target count at the end of the "
            "training.",
            json_schema_extra={"step": 0.1},
        )
        # An average over about 100 steps.
        momentum: float = Field(
            0.99,
            ge=0,
            le=0.9999,
            title="inertia of the teacher",
            description="How slowly the teacher follows the network; use 0.999 for 10 000 steps "
            "or more.",
            json_schema_extra={"step": 0.001},
        )
        # An exponent: 0.5 goes half of the way on a logarithmic scale.
        alignment: float = Field(
            0.5,
            ge=0,
            le=1,
            title="same amount as in the source",
            description="How strongly the teacher's answers are moved towards the fraction of "
            "each class in the source. Lower it if the target has clearly more or less of the "
            "structure.",
            json_schema_extra={"step": 0.1},
        )

    def __init__(self, settings: Any, network: Network, summary: DataSummary) -> None:
        super().__init__(settings, network, summary)
        self.teacher = copy.deepcopy(network).requires_grad_(False)
        equal = (1 / network.classes,) * network.classes
        self.prior = PriorAlignment(summary.prior or equal, settings.alignment)

    @property
    def predictor(self) -> Network:
        """The teacher."""
        return self.teacher

    def prepare(self, batch: Batch, augment: Augmentation, progress: float) -> Batch:
        """Augment, and change contrast, blur and noise of all target patches for the student."""
        prepared = super().prepare(batch, augment, progress)
        # Whatever the augmentation of the source: with equal patches, teacher and student would
        # agree already.
        target = prepared["target"]
        changed = augment.photometric(target.clean, share=1)
        return {**prepared, "target": replace(target, image=changed)}

    def losses(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Supervised losses, and the loss of pseudo-labels on pixels without annotation."""
        losses = super().losses(batch, progress)
        target = batch["target"]
        probabilities = self.prior(predict_as_teacher(self.teacher, target.clean))
        confidence, predicted = probabilities.max(1)
        confident = predicted.masked_fill(confidence < self.settings.confidence, IGNORE)
        labels = torch.where(target.labels == IGNORE, confident, target.labels)
        self.report("pseudo_labelled", (labels != IGNORE).float().mean())
        self.report("pseudo_foreground", ((labels > 0) & (labels != IGNORE)).float().mean())
        # Not from the start: the first pseudo-labels would be wrong, and would be learnt.
        weight = self.settings.weight * ramp(progress, 0.25, 0.5)
        with in_domain(self.network, "target"):
            # Pseudo-labels know no objects.
            pseudo_labelled = replace(target, labels=labels, borders=None)
            maps = self.network.encode(target.image)
            losses["consistency"] = weight * self.supervised(maps, pseudo_labelled)
        return losses

    def after_step(self, step: int) -> None:
        """Update the teacher."""
        # In the first steps the plain mean of all networks, so that random initial weights do not
        # stay in the average for long.
        momentum = min(self.settings.momentum, 1 - 1 / (step + 2))
        update_average(self.teacher, self.network, momentum)
