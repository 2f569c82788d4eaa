"""What a training method is: a module that returns named losses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from napari_emda.data.intensity import QUANTILES
from napari_emda.data.volume import Domain, Volume
from napari_emda.nn.losses import deep_supervision, segmentation
from napari_emda.nn.network import Network
from napari_emda.nn.normalisation import in_domain
from napari_emda.registry import Registry
from napari_emda.sampling.augmentation import Augmentation
from napari_emda.sampling.sampler import Batch, Patches
from napari_emda.settings import base
from napari_emda.settings.requirements import Requirements
from napari_emda.settings.training import TrainSettings


@dataclass(frozen=True)
class DataSummary:
    """What a method may know of the data before it sees a batch.

    Attributes:
        quantiles: standardised grey-value quantiles (513) of each domain that is there.
        annotated: whether any pixel of the target is annotated.
        prior: share of each class in the source's labels; empty where not known.
        continued: whether training starts from another run's network that has learnt to predict the same classes.
        padding: standardised grey values that stand for padding in the source.
        labelled: whether anything is labelled, in a source or by annotations of a target.
    """

    quantiles: dict[Domain, NDArray[np.float64]] = field(default_factory=dict)
    annotated: bool = False
    prior: tuple[float, ...] = ()
    continued: bool = False
    padding: tuple[float, ...] = ()
    labelled: bool = True

    def quantiles_of(self, domain: Domain) -> NDArray[np.float64]:
        """The quantiles of a domain, a straight line where it is not there."""
        return self.quantiles.get(domain, np.linspace(-3, 3, QUANTILES))


@dataclass(frozen=True)
class Translator:
    """A network that changes the look of standardised images B x 1 x H x W of one domain.

    Attributes:
        network: sides of its input must be multiples of ``stride``.
        domain: whose images it translates.
        reach: pixels around a place that can change its translation.
        stride: of its coarsest map.
    """

    network: nn.Module
    domain: Domain
    reach: int
    stride: int


@dataclass(frozen=True)
class Postprocessing:
    """What a method asks for beside its network's answer on the target.

    Attributes:
        flips: average over flipped copies.
        z_smoothing: average each section with its neighbours, as far as these agree.
        prior_strength: how much of the way the classes' shares are moved to those of the source, 0 to 1
            (`napari_emda.training.prior_matching`).
        target_statistics_weight: share of the target in the normalisation statistics, where these are measured;
            the rest is the source's (`nn.normalisation.mix_statistics`).
    """

    flips: bool = False
    z_smoothing: bool = False
    prior_strength: float = 0.0
    target_statistics_weight: float = 1.0

    @property
    def measured(self) -> bool:
        """Whether anything of it must be measured on the target."""
        return self.z_smoothing or self.prior_strength > 0


class Averaging(base.Settings):
    """Settings of methods whose predictions are averages, see `Postprocessing`."""

    renamed: ClassVar = {"neighbours": "z_smoothing"}

    flips: bool = Field(True, description="Average predictions over four flipped copies.")
    z_smoothing: bool = Field(
        True,
        description="Average predictions over neighbouring sections, as far as these agree.",
    )


class Method(nn.Module):
    """Base of all methods.

    The first line of a method's docstring is its sentence in the combo box. Critics, teachers and further decoders are
    attributes: optimiser, checkpoint and device follow from that.

    Args:
        settings: of the class's own ``Settings``.
        network: what is trained.
        summary: what is known of the data.
    """

    name: ClassVar[str]
    requirements: ClassVar[Requirements] = Requirements(domains=("source",), labels="needed")
    """Which volumes, labels and annotations must be there."""
    architecture: ClassVar[dict[str, Any]] = {}
    """What the method demands of the network, whatever the settings say."""
    source_batches: ClassVar[int] = 1
    """Batches of the source in a step."""
    unlabelled_losses: ClassVar[tuple[str, ...]] = ()
    """Its losses that need no labels and are better the smaller; ``keep`` may then be ``supervised`` or ``total``."""
    criterion = staticmethod(segmentation)
    """The supervised loss: logits B x C x H x W and labels B x H x W to a scalar."""

    class Settings(base.Settings):
        """Settings of the method; none here."""

    def __init__(self, settings: Any, network: Network, summary: DataSummary) -> None:
        super().__init__()
        self.settings, self.network, self.summary = settings, network, summary
        self.reported: dict[str, Tensor] = {}

    @classmethod
    def learns_from(cls, volume: Volume, settings: Any, training: TrainSettings) -> Volume:
        """The part of a volume that the method may look at; all of it.

        Args:
            volume: a source, or a target without any labels but those annotated in the project.
            settings: of the class's own ``Settings``.
            training: how the network is trained, seed and boxes included.
        """
        return volume

    @classmethod
    def predicted_classes(cls, settings: Any, classes: tuple[str, ...]) -> tuple[str, ...]:
        """Names of what the network tells apart, the background first: the project's classes.

        Args:
            settings: of the class's own ``Settings``.
            classes: those of the project.
        """
        return classes

    @classmethod
    def learns_target(cls, there: Sequence[Domain]) -> bool:
        """Whether it learns from a target, given the domains that are there."""
        requirements = cls.requirements
        return "target" in requirements.domains or (
            "target" in requirements.optional_domains and "target" in there
        )

    @property
    def predictor(self) -> Network:
        """The network that predicts."""
        return self.network

    @property
    def translator(self) -> Translator | None:
        """What gives one volume the look of the other, to be shown; most methods have none."""
        return None

    @property
    def postprocessing(self) -> Postprocessing:
        """What is done with the network's answer on the target; nothing here."""
        return Postprocessing()

    @property
    def trained(self) -> Network:
        """The network from which another run may start."""
        return self.predictor

    def draws(self, domain: Domain) -> bool:
        """Whether patches of a domain that is there are drawn in a step; all that is there, here."""
        return True

    def prepare(self, batch: Batch, augment: Augmentation, progress: float) -> Batch:
        """Augment a batch. Runs ahead of the losses, perhaps in another thread: draw from ``augment`` alone."""
        return {domain: augment(patches) for domain, patches in batch.items()}

    def losses(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Named, weighted losses; the trainer sums them. ``progress`` runs from 0 to 1."""
        losses = {}
        if "source" in batch:
            losses["segmentation"] = self.segmentation(batch["source"], "source")
        if self.summary.annotated and "target" in batch:
            losses["target_segmentation"] = self.segmentation(batch["target"], "target")
        return losses

    def segmentation(self, patches: Patches, domain: Domain) -> Tensor:
        """The supervised loss of one domain."""
        with in_domain(self.network, domain):
            return self.supervised(self.network.encode(patches.image), patches.labels)

    def supervised(self, maps: list[Tensor], labels: Tensor) -> Tensor:
        """The supervised loss of an encoder's maps, coarser resolutions included.

        Args:
            maps: f_0 ... f_L, by the statistics of the domain that the patches come from.
            labels: B x H x W class ids or IGNORE.
        """
        logits = self.network.classify(self.network.features(maps))
        return deep_supervision(self.criterion, logits, labels)

    def after_step(self, step: int) -> None:
        """Called when the optimiser has stepped, for example to move an average."""

    def learning_rate(self, progress: float, role: str = "") -> float:
        """Factor of the learning rate of a group of parameters: half a cosine from 1 to 0.01."""
        return cosine(1.0, 0.01, progress)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Parameters by the role under which `learning_rate` knows them; all that are learnt, each once."""
        return {"": [parameter for parameter in self.parameters() if parameter.requires_grad]}

    def alarm(self) -> str:
        """What has gone wrong so far, with a remedy, in one sentence; empty where nothing has."""
        return ""

    def report(self, name: str, value: Tensor) -> None:
        """Show a number beside the losses (a discriminator's accuracy, a PSNR); it is not optimised."""
        self.reported[name] = value.detach()


def cosine(start: float, end: float, progress: float) -> float:
    """From ``start`` at progress 0 to ``end`` at 1 along half a cosine."""
    return float(end + (start - end) * 0.5 * (1 + math.cos(math.pi * progress)))


def ramp(progress: float, start: float, end: float) -> float:
    """0 until ``start``, 1 from ``end`` on, a straight line between."""
    return min(1.0, max(0.0, (progress - start) / max(end - start, 1e-9)))


methods: Registry[type[Method]] = Registry(
    "method", "napari_emda.methods", "napari_emda.methods", Method
)
