"""A network that learns what another model predicts of the target."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from napari_emda.data.names import OptionalFileName
from napari_emda.data.volume import IGNORE
from napari_emda.errors import JobError
from napari_emda.methods.base import Averaging, Method, Postprocessing, methods
from napari_emda.nn.normalisation import in_domain
from napari_emda.sampling.patches import Batch, Patches
from napari_emda.settings.base import ADVANCED
from napari_emda.settings.requirements import TAUGHT, Requirements


@methods.register(TAUGHT)
class Taught(Method):
    """Teaches a network what a model of another program predicts, so that it can learn on.

    The model predicts the target first. Its probabilities then take the place of labels, and pixels
    count as much as it is sure of them (Hinton et al. 2015). Annotated pixels are learnt from their
    labels instead.
    """

    citations = ("hinton2015",)
    requirements = Requirements(domains=("target",), model="classes")
    taught = True

    class Settings(Averaging):
        """Settings of learning from a model."""

        teacher: OptionalFileName = Field(
            "",
            title="teacher",
            description="The run whose predictions are learnt; left empty, the newest model of "
            "another program, or else the run that training starts from.",
            examples=["001-imported"],
            json_schema_extra=ADVANCED,
        )

    @property
    def postprocessing(self) -> Postprocessing:
        """Flips and z smoothing, if the settings ask for them."""
        return Postprocessing(self.settings.flips, self.settings.z_smoothing)

    def losses(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """The loss of the teacher's answers, and that of annotated pixels."""
        losses = super().losses(batch, progress)
        patches = batch["target"]
        if patches.taught is None:
            raise JobError("Nothing was predicted to learn from: name a run as the teacher.")
        with in_domain(self.network, "target"):
            logits = self.network.decode(self.network.encode(patches.image))
        losses["taught"] = taught_loss(logits, *_answers(patches))
        return losses


def _answers(patches: Patches) -> tuple[Tensor, Tensor]:
    """Probabilities B x C x H x W that are taught, and the weight of each pixel, B x H x W.

    The weight is 1 - H / log C, with the entropy H: 1 where the teacher is sure, 0 where it does
    not know, and 0 where there is a label.
    """
    assert patches.taught is not None
    foreground = patches.taught.clamp(0, 1)
    # Rounding and rotation may take a sum a little above 1.
    foreground = foreground / foreground.sum(1, keepdim=True).clamp_min(1)
    probabilities = torch.cat([1 - foreground.sum(1, keepdim=True), foreground], 1)
    entropies = torch.special.entr(probabilities).sum(1) / math.log(probabilities.shape[1])
    return probabilities, (1 - entropies).clamp(0, 1) * (patches.labels == IGNORE)


def taught_loss(
    logits: Tensor, probabilities: Tensor, weights: Tensor, smooth: float = 1
) -> Tensor:
    """Weighted Kullback-Leibler divergence plus soft Dice loss, as `nn.losses.segmentation`.

    sum w KL(q | p) / sum w, and 1 - (2 sum w p q + s) / (sum w p^2 + sum w q^2 + s), mean over
    foreground classes.

    Args:
        logits: B x C x H x W, of p.
        probabilities: q, B x C x H x W.
        weights: w, B x H x W.
        smooth: s; keeps loss and gradient finite where a class is absent from both.
    """
    log_p = logits.float().log_softmax(1)
    divergences = F.kl_div(log_p, probabilities, reduction="none").sum(1)
    divergence: Any = (divergences * weights).sum() / weights.sum().clamp_min(1)
    p = log_p.exp()[:, 1:]
    q = probabilities[:, 1:]
    w = weights.unsqueeze(1)
    pixels = (0, 2, 3)
    overlap = 2 * (w * p * q).sum(pixels) + smooth
    total = (w * p * p).sum(pixels) + (w * q * q).sum(pixels) + smooth
    loss: Tensor = divergence + (1 - overlap / total).mean()
    return loss
