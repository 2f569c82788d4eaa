"""Consistency of predictions on unlabelled patches under strong augmentation."""

from dataclasses import replace
from typing import Any, Literal

from pydantic import Field
from torch import Tensor

from napari_emda.data.volume import Domain
from napari_emda.methods.agreement import (
    CHANGES,
    MAGNITUDE,
    anywhere,
    disagreement,
    predict_changed,
)
from napari_emda.methods.base import DataSummary, Method, methods, ramp
from napari_emda.nn.information import joint, mutual_information
from napari_emda.nn.losses import dice
from napari_emda.nn.network import Network
from napari_emda.nn.normalisation import in_domain
from napari_emda.nn.teacher import predict_as_teacher
from napari_emda.sampling.augmentation import Augmentation
from napari_emda.sampling.patches import Batch
from napari_emda.sampling.randaugment import RandAugment
from napari_emda.settings import base
from napari_emda.settings.requirements import Requirements

# Fraction of the patches that are scaled and rotated a little. The paper does it to all; but
# rotation smooths, and a network trained only on smooth patches fails on the sharp images to
# predict (docs/benchmark-few-labels.md).
_JITTERED = 0.25


@methods.register("uda")
class UDA(Method):
    """Learns from few labels and much unlabelled data, by consistency under strong augmentation.

    Unsupervised data augmentation (Xie et al. 2020) for segmentation: Dice loss on the labelled
    pixels, and a consistency loss between the predictions of a patch and of its augmented copy.
    Unlabelled patches come from the target, or from the same volume if there is no target. The
    prediction of a rotated copy is rotated back before the comparison. The paper augments first
    and applies the same geometric transformation to both copies afterwards; here patches are
    transformed first, which gives the same pairs.
    """

    citations = ("xie2020", "cubuk2020", "ji2019")
    requirements = Requirements(optional_domains=("source", "target"), labels="needed")
    recommended = 4
    # The first half of the patches lies around labels, the second anywhere.
    source_batches = 2
    unlabelled_losses = ("consistency",)
    # Without cross-entropy, as in the comparative study of docs/benchmark-few-labels.md.
    criterion = staticmethod(dice)

    class Settings(base.Settings):
        """Settings of consistency training."""

        consistency: Literal["kl", "iid"] = Field(
            "kl",
            title="comparison",
            description="How the two predictions are compared: 'kl' asks the changed patch for "
            "the prediction of the unchanged one; 'iid' maximises the mutual information of the "
            "two.",
        )
        balance: float = Field(
            0.5,
            ge=0.5,
            le=2,
            title="equal sizes",
            description="How much 'iid' prefers classes of equal size: 1 is the paper's mutual "
            "information, which makes rare structures too large; 0.5 has no preference.",
            json_schema_extra={"step": 0.1},
        )
        # As in the comparative study of docs/benchmark-few-labels.md.
        weight: float = Field(
            1.0,
            ge=0,
            le=10,
            title="weight of unlabelled patches",
            description="How much agreement on unlabelled patches counts, relative to the labels. "
            "Raise it if few labels are there.",
            json_schema_extra={"step": 0.1},
        )
        changes: int = Field(
            CHANGES,
            ge=1,
            le=8,
            title="changes at a time",
            description="How many changes are made to a copy of a patch (RandAugment's N). More "
            "make the network steadier, and learning harder.",
        )
        magnitude: float = Field(
            MAGNITUDE,
            ge=0,
            le=10,
            title="strength of the changes",
            description="Maximum strength of the changes (RandAugment's M). Lower it if changed "
            "patches could not be recognised by an expert.",
            json_schema_extra={"step": 1},
        )
        inverting: bool = Field(
            False,
            title="inverted copies",
            description="Also invert and solarize copies. Off, because in electron microscopy "
            "dark membranes are the signal: a network trained to ignore dark against bright loses "
            "them.",
        )

    def __init__(self, settings: Any, network: Network, summary: DataSummary) -> None:
        super().__init__(settings, network, summary)
        self.unlabelled: Domain = "target" if "target" in summary.quantiles else "source"
        self.strong = RandAugment(settings.changes, settings.magnitude, settings.inverting)

    def prepare(self, batch: Batch, augment: Augmentation, progress: float) -> Batch:
        """Transform the patches; with strong augmentation also change contrast, blur and noise.

        All get one of the eight symmetries of the square, a quarter is scaled and rotated a little.
        """
        # The symmetries are not part of the paper, but sections have no preferred direction.
        if augment.strength == "none":
            return batch
        moved = {
            domain: augment.jittered(augment.mirrored(patches), _JITTERED)
            for domain, patches in batch.items()
        }
        if augment.strength == "weak":
            return moved
        return {
            domain: replace(patches, image=augment.photometric(patches.image))
            for domain, patches in moved.items()
        }

    def losses(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Dice loss on labelled pixels, and consistency on unlabelled patches."""
        losses = super().losses(batch, progress)
        image = batch[self.unlabelled].clean
        if self.unlabelled == "source":
            image = anywhere(image, self.network.stack)
        # An empty prediction maximises mutual information just as well, until the labels have
        # taught the network another one.
        rising = ramp(progress, 0, 0.25) if self.settings.consistency == "iid" else 1.0
        losses["consistency"] = self.settings.weight * rising * self._disagreement(image)
        return losses

    def _disagreement(self, image: Tensor) -> Tensor:
        """The loss between predictions of patches B x C x H x W and of their augmented copies."""
        q, inside = predict_changed(self.network, self.strong, image, self.unlabelled)
        if self.settings.consistency == "iid":
            with in_domain(self.network, self.unlabelled):
                p = self.network(image).float().softmax(1)
        else:
            p = predict_as_teacher(self.network, image, self.unlabelled)
        joints = joint(p, q, inside)
        self.report("information", mutual_information(joints).mean())
        if self.settings.consistency == "iid":
            return -mutual_information(joints, self.settings.balance).mean()
        return disagreement(p, q, inside)
