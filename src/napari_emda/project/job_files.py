"""Jobs as files: what the dock starts, a cluster node runs and a run's folder keeps.

``run`` is by default the latest; ``checkpoint`` says which of its models: ``selected`` (the one to be used), ``last``,
or one of the steps that it has kept.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from napari_emda.errors import JobError
from napari_emda.io.atomic import write_text
from napari_emda.settings.base import Settings
from napari_emda.settings.prediction import PredictSettings
from napari_emda.settings.suggestion import QuerySettings
from napari_emda.settings.training import LOSSES, TrainSettings


class _Job(Settings):
    format: Literal[1] = 1
    project: str


class TrainJob(_Job):
    """Train a method; the run's folder is made once everything was found in order.

    Attributes:
        project: its folder.
        method, method_settings: by name.
        settings: those of the training.
        start_from: a run whose network to start from.
        resume: a run to continue where its checkpoint stands; all other fields but ``project`` must be that run's.
    """

    kind: Literal["train"] = "train"
    method: str
    method_settings: dict[str, Any] = Field(default_factory=dict)
    settings: TrainSettings = TrainSettings()
    start_from: str | None = None
    resume: str | None = None

    def settings_for(self, method: str) -> TrainSettings:
        """Settings of a training that starts from this one's run and is told nothing else.

        By which loss a model is kept is not handed on to another method, which may have no such losses.
        """
        if method == self.method or self.settings.keep not in LOSSES:
            return self.settings
        return self.settings.model_copy(update={"keep": TrainSettings().keep})


class PredictJob(_Job):
    """Segment a volume with a run's model (by default the latest) into the run's folder or to ``out``."""

    kind: Literal["predict"] = "predict"
    run: str | None = None
    checkpoint: str = "selected"
    volume: str | None = None
    out: str | None = None
    settings: PredictSettings = PredictSettings()


class SuggestJob(_Job):
    """Rank the patches of the targets; whoever runs the job records what is suggested.

    Attributes:
        run: whose model is asked; where it is given, its prediction is made even for strategies that need none.
        volume: one target; by default all.
        audit: draw patches by lot to measure the model, instead of ranking them.
        settings, strategy_settings: how many, how large, and of the strategy.
    """

    kind: Literal["suggest"] = "suggest"
    run: str | None = None
    checkpoint: str = "selected"
    volume: str | None = None
    audit: bool = False
    settings: QuerySettings = QuerySettings()
    strategy_settings: dict[str, Any] = Field(default_factory=dict)


class ExportJob(_Job):
    """Write a result to a file of the user's choice; predicts first what is not predicted yet."""

    kind: Literal["export"] = "export"
    what: Literal["mask", "objects", "probabilities", "table", "model"]
    to: str
    run: str | None = None
    checkpoint: str = "selected"
    volume: str | None = None
    threshold: float = Field(0.5, gt=0, lt=1)
    minimum_size: int = Field(0, ge=0)
    overwrite: bool = False


class ScoreJob(_Job):
    """Compare a prediction with true labels; predicts first what is not predicted yet."""

    kind: Literal["score"] = "score"
    against: str
    run: str | None = None
    checkpoint: str = "selected"
    volume: str | None = None
    box: str = ""
    objects: bool = False
    minimum_size: int = Field(0, ge=0)


AnyJob = TrainJob | PredictJob | SuggestJob | ExportJob | ScoreJob
Job = Annotated[AnyJob, Field(discriminator="kind")]
_ADAPTER: TypeAdapter[AnyJob] = TypeAdapter(Job)


def read_job(path: str | Path) -> AnyJob:
    """Read a job file; JobError when it is none."""
    try:
        return _ADAPTER.validate_json(Path(path).read_bytes())
    except OSError as error:
        raise JobError(
            f"The job file '{path}' cannot be read ({error.strerror}): name an existing one."
        ) from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "its text"
        what = "is missing" if first["type"] == "missing" else f"is wrong ({first['msg']})"
        raise JobError(
            f"'{path}' is not a job: '{place}' {what}; compare it with the job.json of a run."
        ) from None


def write_job(job: AnyJob, path: Path) -> None:
    """Write a job file, whole or not at all."""
    write_text(path, job.model_dump_json(indent=2) + "\n")
