"""The job of suggesting patches."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from napari_emda.project.job_files.base import ModelJob, jobs
from napari_emda.settings.suggestion import QuerySettings


@jobs.register("suggest")
class SuggestJob(ModelJob):
    """Rank the patches of the targets; whoever runs the job records what is suggested.

    Attributes:
        run: whose model is asked; where it is given, its prediction is made even for strategies
            that need none.
        volume: one target; by default all.
        audit: draw patches randomly to measure the model, instead of ranking them.
        settings: how many patches, and how large.
        strategy_settings: of the strategy.
    """

    noun: ClassVar[str] = "ranking"
    work: ClassVar[str] = "napari_emda.jobs.suggest"

    kind: Literal["suggest"] = "suggest"
    audit: bool = False
    settings: QuerySettings = QuerySettings()
    strategy_settings: dict[str, Any] = Field(default_factory=dict)
