"""The job of training."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from napari_emda.project.job_files.base import Job, jobs
from napari_emda.settings.training import LOSSES, TrainSettings, split_network


@jobs.register("train")
class TrainJob(Job):
    """Train a method; the run's folder is made once everything was found in order.

    Attributes:
        method: its name.
        method_settings: of the method.
        settings: those of every training.
        network_settings: of the network that ``settings`` name.
        start_from: a run whose network to start from.
        resume: a run to continue where its checkpoint stands; all other fields but ``project`` must
            be that run's.
    """

    noun: ClassVar[str] = "training"
    work: ClassVar[str] = "napari_emda.jobs.train"

    kind: Literal["train"] = "train"
    method: str
    method_settings: dict[str, Any] = Field(default_factory=dict)
    settings: TrainSettings = TrainSettings()
    network_settings: dict[str, Any] = Field(default_factory=dict)
    start_from: str | None = None
    resume: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _read_flat(cls, values: Any) -> Any:
        """In the first version, the U-Net's settings stood among those of the training."""
        if not isinstance(values, dict) or not isinstance(values.get("settings"), dict):
            return values
        settings, network = split_network(values["settings"])
        network |= values.get("network_settings", {})
        return {**values, "settings": settings, "network_settings": network}

    def settings_for(self, method: str) -> TrainSettings:
        """Settings of a training that starts from this one's run, where the user gives none.

        By which loss a model is kept is not handed on to another method, which may have no such
        losses.
        """
        if method == self.method or self.settings.keep not in LOSSES:
            return self.settings
        return self.settings.model_copy(update={"keep": TrainSettings().keep})

    def in_words(self) -> str:
        """What the training is: method, steps, profile and start."""
        start = f", going on from {self.start_from}" if self.start_from is not None else ""
        return f"{self.method}, {self.settings.steps} steps, profile {self.settings.profile}{start}"
