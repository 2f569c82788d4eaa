"""The header of a model's file: all that is needed to use the model."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from napari_emda.data.context import Context
from napari_emda.data.domain_profile import Profiles
from napari_emda.data.intensity import Statistics, measure
from napari_emda.data.model_description import ModelDescription
from napari_emda.data.names import ShownName
from napari_emda.data.prepared import Prepared
from napari_emda.data.resampled import Resampled
from napari_emda.data.spectrum import Spectrum, check_spectrum
from napari_emda.data.spoilt_sections import spoilt_sections
from napari_emda.data.units import LARGEST_SIZE, SMALLEST_SIZE
from napari_emda.data.volume import Domain, Volume
from napari_emda.evaluation.label_free import Prior
from napari_emda.methods.base import DataSummary, Method, methods
from napari_emda.nn.network import NetworkConfig, networks
from napari_emda.settings.base import MOST_INT32
from napari_emda.settings.training import MOST_CONTEXT

# Classes or clusters: a class id is a byte.
MOST_OUTPUTS = 255

_Section = Annotated[int, Field(ge=0, le=MOST_INT32)]
_Step = Annotated[int, Field(ge=0, le=MOST_INT32)]


class ModelHeader(BaseModel):
    """What is needed to build a model, to predict with it, and to name it among those of its run.

    Attributes:
        method, method_settings: the method that was trained.
        classes: names of the outputs, background first; see
            `methods.base.Method.predicted_classes`.
        network: name and settings of the network.
        pixel_size, unit: at which the network works.
        statistics: grey values by volume name.
        spectrum: to which all volumes are filtered before the network sees them (`data.spectrum`);
            empty if they are seen as they are.
        profiles: what is kept of each domain that the network has learnt from or was adapted to, so
            that a volume can be adapted to the model without them; empty in models of versions
            that kept nothing.
        shapes: of the objects of each foreground class in the source, None for a class without
            objects; empty if they were not measured.
        description: what people say of the model.
        context: number of neighbouring sections that the network sees on each side.
        section_distance: from one of them to the next, in ``unit``.
        spoilt: sections that are seen with no other one, by volume name, if there is a context.
        range_per_section: whether each independent section was standardised with its own grey
            range; models of checkpoint format 1 used one range for all.
        seed: of the places where grey values are measured.
        prediction_domain: whose normalisation statistics the target is predicted with.
        flips: whether to average the target's prediction over flipped copies.
        z_smoothing: weight of each neighbouring section in the target, see
            `predictor.smoothed_along_z`.
        step: optimiser steps done.
        selected: the steps whose weights are averaged in this model; empty in a checkpoint.
        outputs: whether these are classes, or clusters without meaning; old headers do not say it.
        features_only: whether the model was trained without labels. It predicts no classes, and
            other runs can start from it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    method: str
    method_settings: dict[str, Any] = {}
    classes: tuple[ShownName, ...] = Field(min_length=2, max_length=MOST_OUTPUTS)
    network: NetworkConfig
    pixel_size: float = Field(ge=SMALLEST_SIZE, le=LARGEST_SIZE)
    unit: ShownName = "nm"
    statistics: dict[str, Statistics] = {}
    spectrum: Spectrum = ()
    profiles: Profiles = {}
    shapes: tuple[Prior | None, ...] = ()
    description: ModelDescription = ModelDescription()
    context: int = Field(0, ge=0, le=MOST_CONTEXT)
    section_distance: float = Field(1.0, ge=SMALLEST_SIZE, le=LARGEST_SIZE)
    spoilt: dict[str, tuple[_Section, ...]] = {}
    range_per_section: bool = True
    seed: int = 0
    prediction_domain: Domain = "source"
    flips: bool = False
    # A third: beyond, the neighbours would count more than the section itself.
    z_smoothing: float = Field(0.0, ge=0, le=1 / 3)
    step: int = Field(0, ge=0, le=MOST_INT32)
    selected: tuple[_Step, ...] = ()
    outputs: Literal["classes", "clusters"] = "classes"
    features_only: bool = False

    @field_validator("statistics")
    @classmethod
    def _are_numbers(cls, statistics: dict[str, Statistics]) -> dict[str, Statistics]:
        for values in statistics.values():
            values.check()
        return statistics

    @field_validator("spectrum")
    @classmethod
    def _is_a_spectrum(cls, spectrum: Spectrum) -> Spectrum:
        check_spectrum(spectrum)
        return spectrum

    @field_validator("shapes")
    @classmethod
    def _are_shapes(cls, shapes: tuple[Prior | None, ...]) -> tuple[Prior | None, ...]:
        for shape in filter(None, shapes):
            shape.check()
        return shapes

    @model_validator(mode="after")
    def _knows_each_class(self) -> ModelHeader:
        classes = len(self.classes)
        shares = [len(profile.shares) for profile in self.profiles.values() if profile.shares]
        if set(shares) - {classes} or len(self.shapes) not in (0, classes - 1):
            raise ValueError("The shares are those of other classes")
        return self

    @model_validator(mode="after")
    def _has_a_channel_for_each_section(self) -> ModelHeader:
        if self.network.channels != 2 * self.context + 1:
            raise ValueError("The network sees another number of sections")
        return self

    @property
    def model(self) -> str:
        """Name of the model within its run: ``400``, or ``selected 300 400 500``."""
        return " ".join(["selected", *map(str, self.selected)]) if self.selected else str(self.step)

    @property
    def finds_clusters(self) -> bool:
        """Whether the outputs are clusters, none of which is background."""
        return methods[self.method].finds_clusters

    def statistics_of(self, view: Resampled) -> Statistics:
        """Grey values of a volume at ``pixel_size``.

        Those of the training if the volume was part of it, else measured now in the same way.
        """
        network = networks[self.network.name]
        if network.foreign:
            settings: Any = network.Settings.parse(self.network.settings)
            return Prepared.of(view, settings.before)
        is_per_section = view.volume.grid.sections_are_independent and self.range_per_section
        return self.statistics.get(view.volume.name) or measure(
            view, seed=self.seed, apart=is_per_section, common=self.spectrum
        )

    def context_of(self, view: Resampled) -> Context:
        """Which sections the network sees with each section of a volume at ``pixel_size``.

        Spoilt sections are those of the training if the volume was part of it, else found now in
        the same way.
        """
        depth = view.shape[0]
        if not self.context and not self.network.section_ratio:
            return Context.none(depth)
        spoilt = self.spoilt.get(view.volume.name)
        spoilt = spoilt_sections(view) if spoilt is None else spoilt
        if not self.context:
            return Context.none(depth, spoilt)
        return Context.of(view.volume.grid, depth, self.context, self.section_distance, spoilt)

    def z_smoothing_of(self, volume: Volume) -> float:
        """Weight of each neighbouring section of a volume, see `predictor.smoothed_along_z`."""
        has_neighbours = not volume.grid.sections_are_independent and volume.shape[0] > 1
        # The weight was measured on the target, see `training.prior_matching.calibrate`.
        if has_neighbours and volume.domain == "target":
            return self.z_smoothing
        return 0.0

    def build(self, summary: DataSummary | None = None) -> Method:
        """Build the method with a new network.

        Args:
            summary: of the training data. By default empty, because the tables that a method
                derives from data are loaded with its weights.
        """
        cls = methods[self.method]
        settings = cls.Settings.parse(self.method_settings)
        return cls(settings, self.network.build(), summary or DataSummary())
