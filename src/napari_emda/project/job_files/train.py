"""The job of training."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from napari_emda.project.job_files.base import Job, jobs
from napari_emda.settings.requirements import FIXED
from napari_emda.settings.training import LOSSES, TrainSettings, split_network

# More than one computer has: a number with a zero too many.
MOST_DEVICES = 64


@jobs.register("train")
class TrainJob(Job):
    """Train a method. The run's folder is created after all checks have passed.

    Attributes:
        method: its name.
        method_settings: of the method.
        settings: of every training.
        network_settings: of the network that ``settings`` name.
        start_from: a run whose network the training starts from.
        resume: a run to continue from its checkpoint; all other fields but ``project`` and
            ``devices`` must be those of that run.
        devices: how many GPUs train together, or processes on the CPU, each with a part of every
            batch; by default those of the run to continue, and else one.
    """

    noun: ClassVar[str] = "training"
    preparing: ClassVar[str] = "Reading the images"
    work: ClassVar[str] = "napari_emda.jobs.train"

    kind: Literal["train"] = "train"
    method: str
    method_settings: dict[str, Any] = Field(default_factory=dict)
    settings: TrainSettings = TrainSettings()
    network_settings: dict[str, Any] = Field(default_factory=dict)
    start_from: str | None = None
    resume: str | None = None
    devices: int | None = Field(None, ge=1, le=MOST_DEVICES)

    @model_validator(mode="before")
    @classmethod
    def _read_flat(cls, values: Any) -> Any:
        """Read a job file of the first version, with the network's settings in ``settings``."""
        if not isinstance(values, dict) or not isinstance(values.get("settings"), dict):
            return values
        given = values.get("network_settings", {})
        if not isinstance(given, dict):
            return values
        settings, network = split_network(values["settings"])
        return {**values, "settings": settings, "network_settings": network | given}

    def settings_for(self, method: str) -> TrainSettings:
        """Default settings of a training that starts from the run of this one.

        Args:
            method: of the new training.
        """
        # Another method may not have the loss by which this one chose the model to keep.
        if method == self.method or self.settings.keep not in LOSSES:
            return self.settings
        return self.settings.model_copy(update={"keep": TrainSettings().keep})

    def in_words(self) -> str:
        """Method, steps, profile and start, for the user."""
        if self.method == FIXED:
            return "the model of another program"
        start = f", going on from {self.start_from}" if self.start_from is not None else ""
        return f"{self.method}, {self.settings.steps} steps, profile {self.settings.profile}{start}"
