"""The protocol of training methods: modules that return named losses."""

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
from napari_emda.nn.object_losses import CONTOUR_WEIGHT, DISTANCE_WEIGHT, object_losses
from napari_emda.registry import Registry
from napari_emda.sampling.augmentation import Augmentation
from napari_emda.sampling.patches import Batch, Patches
from napari_emda.settings import base
from napari_emda.settings.requirements import Requirements
from napari_emda.settings.training import TrainSettings


@dataclass(frozen=True)
class DataSummary:
    """Properties of the data that a method may use before it sees a batch.

    Attributes:
        quantiles: standardised grey-value quantiles (513) of each domain that has volumes, and of
            a source that only the model to start from knows.
        annotated: whether any pixel of the target is annotated.
        prior: fraction of each class in the source's labels, also of such a source; empty if
            unknown.
        continued: whether training starts from a run's network that predicts the same classes.
        padding: standardised grey values of padding in the source, or in the target without one.
        labelled: whether anything is labelled, in a source or by annotations of a target.
    """

    quantiles: dict[Domain, NDArray[np.float64]] = field(default_factory=dict)
    annotated: bool = False
    prior: tuple[float, ...] = ()
    continued: bool = False
    padding: tuple[float, ...] = ()
    labelled: bool = True

    def quantiles_of(self, domain: Domain) -> NDArray[np.float64]:
        """The quantiles of a domain, 513 values."""
        # When a checkpoint is loaded there is no summary: buffers of the right shape are enough,
        # because their values come from the file.
        return self.quantiles.get(domain, np.linspace(-3, 3, QUANTILES))


@dataclass(frozen=True)
class Translator:
    """A network that changes the appearance of standardised images B x 1 x H x W of one domain.

    Attributes:
        network: the sides of its input must be multiples of ``stride``.
        domain: whose images it translates.
        reach: radius of its receptive field in pixels.
        stride: of its coarsest map.
    """

    network: nn.Module
    domain: Domain
    reach: int
    stride: int


@dataclass(frozen=True)
class Postprocessing:
    """How a method wants the predictions of its network on the target to be processed.

    Attributes:
        flips: average over flipped copies.
        z_smoothing: average each section with its neighbours, as far as these agree.
        prior_strength: how far the class proportions are moved to the expected ones, 0 to 1
            (`napari_emda.training.prior_matching`).
        shares: expected of each class, background first; empty for those of the source.
        target_statistics_weight: weight of the target's normalisation statistics, if these are
            measured; the source's have the rest (`nn.normalisation.mix_statistics`).
    """

    flips: bool = False
    z_smoothing: bool = False
    prior_strength: float = 0.0
    target_statistics_weight: float = 1.0
    shares: tuple[float, ...] = ()

    @property
    def measured(self) -> bool:
        """Whether any of it must be measured on the target."""
        return self.z_smoothing or self.prior_strength > 0


class Averaging(base.Settings):
    """Settings of methods that average predictions, see `Postprocessing`."""

    renamed: ClassVar = {"neighbours": "z_smoothing"}

    flips: bool = Field(
        True,
        title="average over flips",
        description="Average predictions over four flipped copies: a little better, four "
        "times slower.",
    )
    z_smoothing: bool = Field(
        True,
        title="average over sections",
        description="Average predictions over neighbouring sections, as far as these agree. Turn "
        "it off if sections are thick or not aligned.",
    )


class Method(nn.Module):
    """Base of all methods.

    The first line of a method's docstring describes it in the combo box. Discriminators, teachers
    and further decoders are attributes; thus optimiser, checkpoint and device include them.

    Args:
        settings: an instance of the class's ``Settings``.
        network: the network to train.
        summary: properties of the data.
    """

    name: ClassVar[str]
    requirements: ClassVar[Requirements] = Requirements(domains=("source",), labels="needed")
    """Which volumes, labels and annotations the method needs."""
    citations: ClassVar[tuple[str, ...]] = ()
    """What it implements: keys of ``reporting/references.bib``, or whole entries of BibTeX."""
    recommended: ClassVar[int] = 0
    """Place among the methods that the dock offers first, from 1; 0 for the others."""
    architecture: ClassVar[dict[str, Any]] = {}
    """Network settings that the method prescribes."""
    finds_clusters: ClassVar[bool] = False
    """Whether the outputs are clusters, none of which is background."""
    taught: ClassVar[bool] = False
    """Whether it learns what another run predicts of the target, which is predicted before."""
    source_batches: ClassVar[int] = 1
    """Number of batches of the source in a step."""
    unlabelled_losses: ClassVar[tuple[str, ...]] = ()
    """Losses that need no labels and should become small.

    Methods with such losses offer ``supervised`` and ``total`` for the setting ``keep``."""
    one_device: ClassVar[str] = ""
    """Why it cannot be trained on several devices, as the end of a sentence; empty if it can.

    Each device computes the losses of its own patches, and gradients, losses and changes of buffers
    are averaged in every step."""
    criterion = staticmethod(segmentation)
    """The supervised loss: logits B x C x H x W and labels B x H x W to a scalar."""

    class Settings(base.Settings):
        """Settings of the method; none here."""

    def __init__(self, settings: Any, network: Network, summary: DataSummary) -> None:
        super().__init__()
        self.settings = settings
        self.network = network
        self.summary = summary
        self.reported: dict[str, Tensor] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        # What is replayed from a recording does not change. Losses that nobody has checked may.
        if "losses" in vars(cls) and "recorded_stage" not in vars(cls):
            cls.recorded_stage = _no_stage  # type: ignore[assignment]

    @classmethod
    def learns_from(cls, volume: Volume, settings: Any, training: TrainSettings) -> Volume:
        """The part of a volume that the method may use; all of it by default.

        Args:
            volume: a source, or a target with no labels except annotations of the project.
            settings: an instance of the class's ``Settings``.
            training: settings of the training, including seed and boxes.
        """
        return volume

    @classmethod
    def predicted_classes(cls, settings: Any, classes: tuple[str, ...]) -> tuple[str, ...]:
        """Names of the classes of the network, background first; by default those of the project.

        Args:
            settings: an instance of the class's ``Settings``.
            classes: of the project.
        """
        return classes

    @classmethod
    def learns_target(cls, domains: Sequence[Domain]) -> bool:
        """Whether the method learns from a target, if these domains have volumes."""
        requirements = cls.requirements
        return "target" in requirements.domains or (
            "target" in requirements.optional_domains and "target" in domains
        )

    @property
    def predictor(self) -> Network:
        """The network that predicts."""
        return self.network

    @property
    def translator(self) -> Translator | None:
        """What gives one volume the appearance of the other, for previews; None by default."""
        return None

    @property
    def postprocessing(self) -> Postprocessing:
        """How predictions on the target are processed; by default they are not."""
        return Postprocessing()

    @property
    def trained(self) -> Network:
        """The network from which another run can start."""
        return self.predictor

    def continues(self) -> None:
        """Called after the network has got the weights of the run that training starts from."""

    def draws(self, domain: Domain) -> bool:
        """Whether patches of a domain are drawn in every step; by default those of all domains."""
        return True

    def prepare(self, batch: Batch, augment: Augmentation, progress: float) -> Batch:
        """Augment a batch.

        Called ahead of `losses`, perhaps in another thread; so take random numbers only from
        ``augment``.

        Args:
            batch: patches by domain.
            augment: source of random numbers, and the augmentation of the settings.
            progress: of the training, 0 to 1.
        """
        return {domain: augment(patches) for domain, patches in batch.items()}

    def losses(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Named and weighted losses, which the trainer adds up.

        Args:
            batch: from `prepare`.
            progress: of the training, 0 to 1.
        """
        losses = {}
        if "source" in batch:
            losses["segmentation"] = self.segmentation(batch["source"], "source")
        if self.summary.annotated and "target" in batch:
            losses["target_segmentation"] = self.segmentation(batch["target"], "target")
        return losses

    def segmentation(self, patches: Patches, domain: Domain) -> Tensor:
        """The supervised loss of one domain."""
        with in_domain(self.network, domain):
            return self.supervised(self.network.encode(patches.image), patches)

    def supervised(self, maps: list[Tensor], patches: Patches) -> Tensor:
        """The supervised loss of encoder maps, including coarser resolutions and object maps.

        Args:
            maps: f_0 ... f_L, normalised by the statistics of the patches' domain.
            patches: whose labels teach, and whose borders if they have any.
        """
        features = self.network.features(maps)
        return self.supervised_by(self.network.classify(features), features, patches)

    def supervised_by(
        self, logits: list[Tensor], features: list[Tensor], patches: Patches
    ) -> Tensor:
        """The same, of logits and features that are computed already."""
        loss = deep_supervision(self.criterion, logits, patches.labels)
        if patches.borders is None or not self.network.maps_objects:
            return loss
        maps = self.network.object_maps(features[0])
        contour, distance = object_losses(maps, patches.labels, patches.borders)
        self.report("contour", contour)
        self.report("distance", distance)
        return loss + CONTOUR_WEIGHT * contour + DISTANCE_WEIGHT * distance

    def recorded_stage(self, progress: float) -> str | None:
        """Name of the stage of the training, if a GPU can replay its steps from a recording.

        In all steps of a stage, `losses` must do the same with a batch, whatever the progress, and
        must not read values on the host. A class with `losses` of its own and none of this has
        None, which means that no step is replayed.

        Args:
            progress: of the training, 0 to 1.
        """
        return "segmentation"

    def after_step(self, step: int) -> None:
        """Called after each step of the optimiser, for example to update an average."""

    def learning_rate(self, progress: float, role: str = "") -> float:
        """Factor of the learning rate of a parameter group; by default a cosine from 1 to 0.01.

        Args:
            progress: of the training, 0 to 1.
            role: of the group, from `parameter_groups`.
        """
        return cosine(1.0, 0.01, progress)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """All trained parameters by role, each once; `learning_rate` gets the role."""
        return {"": [parameter for parameter in self.parameters() if parameter.requires_grad]}

    def alarm(self) -> str:
        """One sentence that states what has gone wrong and its remedy; empty if nothing has."""
        return ""

    def report(self, name: str, value: Tensor) -> None:
        """Show a value beside the losses, such as an accuracy; it is not optimised."""
        self.reported[name] = value.detach()


def _no_stage(method: Method, progress: float) -> None:
    """The ``recorded_stage`` of methods whose steps are computed one by one."""


def cosine(start: float, end: float, progress: float) -> float:
    """Half a cosine from ``start`` at progress 0 to ``end`` at progress 1.

    end + (start - end) (1 + cos(pi progress)) / 2, without restarts (Loshchilov & Hutter 2017).
    """
    return float(end + (start - end) * 0.5 * (1 + math.cos(math.pi * progress)))


def ramp(progress: float, start: float, end: float) -> float:
    """0 until ``start``, 1 from ``end`` on, linear between."""
    return min(1.0, max(0.0, (progress - start) / max(end - start, 1e-9)))


methods: Registry[type[Method]] = Registry(
    "method", "napari_emda.methods", "napari_emda.methods", Method
)
