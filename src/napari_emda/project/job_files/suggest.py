"""The job of suggesting patches."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from napari_emda.project.job_files.base import ModelJob, jobs
from napari_emda.settings.suggestion import QuerySettings


@jobs.register("suggest")
class SuggestJob(ModelJob):
    """Rank the patches of the targets. The caller records the result in the project.

    Attributes:
        run: the run whose model is asked. If it is given, its prediction is made even for
            strategies that need no model.
        volume: name of a target; by default all targets.
        audit: draw patches at random to measure the model, instead of ranking them.
        settings: number and size of the patches, and all else that every strategy has.
        strategy_settings: of the strategy.
    """

    noun: ClassVar[str] = "search for patches"
    preparing: ClassVar[str] = "Loading the model"
    work: ClassVar[str] = "napari_emda.jobs.suggest"

    kind: Literal["suggest"] = "suggest"
    audit: bool = False
    settings: QuerySettings = QuerySettings()
    strategy_settings: dict[str, Any] = Field(default_factory=dict)
