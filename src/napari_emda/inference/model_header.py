"""What a model's file says of the model: all that is needed to use it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from napari_emda.data.intensity import Statistics, measure
from napari_emda.data.resampled import Resampled
from napari_emda.data.volume import Domain
from napari_emda.methods.base import DataSummary, Method, methods
from napari_emda.nn.network import NetworkConfig


class ModelHeader(BaseModel):
    """What is needed to build a model, to predict with it, and to tell it from others of its run.

    Attributes:
        method, method_settings: what was trained.
        classes: names of what is predicted, background first; see
            `methods.base.Method.predicted_classes`.
        network: with which it is built again.
        pixel_size, unit: at which the network works.
        statistics: grey values by volume name.
        range_per_section: whether independent sections were brought to a grey range each; models
            of checkpoint format 1 saw them in one range.
        seed: of the places where grey values are measured.
        prediction_domain: whose normalisation statistics to predict the target with.
        flips: whether to average the target's prediction over flipped copies.
        z_smoothing: weight of the sections before and after each of the target's.
        step: optimiser steps done.
        selected: the validated steps of whose weights this model is made; none in a checkpoint.
        features_only: whether nothing was labelled, so that it predicts nothing and is there to
            start from.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str
    method_settings: dict[str, Any] = {}
    classes: tuple[str, ...]
    network: NetworkConfig
    pixel_size: float
    unit: str = "nm"
    statistics: dict[str, Statistics] = {}
    range_per_section: bool = True
    seed: int = 0
    prediction_domain: Domain = "source"
    flips: bool = False
    z_smoothing: float = 0.0
    step: int = 0
    selected: tuple[int, ...] = ()
    features_only: bool = False

    @property
    def model(self) -> str:
        """Tells the models of a run apart: ``400``, or ``selected 300 400 500``."""
        return " ".join(["selected", *map(str, self.selected)]) if self.selected else str(self.step)

    def statistics_of(self, view: Resampled) -> Statistics:
        """Grey values of a volume at ``pixel_size``.

        Those seen in training, else measured now, in the same way.
        """
        independent = view.volume.grid.sections_are_independent
        apart = independent and self.range_per_section
        return self.statistics.get(view.volume.name) or measure(view, seed=self.seed, apart=apart)

    def build(self, summary: DataSummary | None = None) -> Method:
        """The method with a fresh network.

        By default it knows nothing of data: its tables come with the weights.
        """
        cls = methods[self.method]
        settings = cls.Settings.parse(self.method_settings)
        return cls(settings, self.network.build(), summary or DataSummary())
