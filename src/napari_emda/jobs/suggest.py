"""Suggesting which patches of the targets to annotate next."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

from napari_emda.active_learning.candidates import Candidates
from napari_emda.active_learning.random_audit import draw, painted
from napari_emda.active_learning.strategy import Strategy, strategies
from napari_emda.active_learning.suggest import suggest
from napari_emda.data.array import Array
from napari_emda.data.box import Box
from napari_emda.data.volume import Volume
from napari_emda.errors import JobError
from napari_emda.events import Event, Finished, Started, Suggested
from napari_emda.inference import checkpoint
from napari_emda.inference.predict import predict
from napari_emda.inference.predictor import Predictor
from napari_emda.jobs.preview import PreviewRequest
from napari_emda.project.job_files import SuggestJob
from napari_emda.project.project import Project
from napari_emda.project.region import AUDIT
from napari_emda.project.run_folder import RunFolder
from napari_emda.project.stored_prediction import StoredPrediction
from napari_emda.settings.prediction import PredictSettings
from napari_emda.settings.requirements import Available
from napari_emda.settings.suggestion import QuerySettings

Regions = tuple[dict[str, Any], ...]


def run(job: SuggestJob, _: PreviewRequest) -> Iterator[Event]:
    """Rank or draw patches of one or all targets; whoever runs the job records what is suggested.

    Yields:
        Started, what predicting says, Suggested with the best of all volumes, Finished.

    Raises:
        EmdaError: the job or what it names cannot be used.
    """
    project = Project.open(job.project)
    cls = strategies[job.settings.strategy]
    strategy = cls(cls.Settings.parse(job.strategy_settings))
    volumes = _targets(project, job.volume)
    required = strategy.required
    asks_model = job.run is not None or (required.model != "none" and not job.audit)
    if asks_model and job.run is None and not project.runs.names():
        required.check(cls.name, Available())
    folder = project.run(job.run) if asks_model else None
    predictor, earlier = (None, None) if folder is None else _models(project, folder, job, strategy)
    for volume in volumes if not job.audit else ():  # mistakes are told before anything begins
        Candidates.of(volume.shape, job.settings.patch, box=job.settings.box)
    name = "" if folder is None else folder.name
    yield Started("suggest", name, str(predictor.compute) if predictor else "cpu", 0)
    if folder is not None and predictor is not None and not predictor.header.features_only:
        for volume in volumes:  # so that each patch has an answer to be corrected
            yield from _predicted(predictor, volume, folder, job.settings)
    if job.audit:
        regions = _drawn(project, volumes, job.settings)
    else:
        models = (predictor, earlier)
        regions = yield from _ranked(project, volumes, models, strategy, job.settings, folder)
    yield Suggested(regions)
    drawn_by = AUDIT if job.audit else cls.name
    result = {"run": name or None, "strategy": drawn_by, "regions": list(regions)}
    how = "drawn by lot" if drawn_by in (AUDIT, "random") else f"suggested by {drawn_by}"
    many = "1 patch is" if len(regions) == 1 else f"{len(regions)} patches are"
    yield Finished("done", f"{many} {how}.", result)


def _models(
    project: Project, folder: RunFolder, job: SuggestJob, strategy: Strategy
) -> tuple[Predictor, Predictor | None]:
    """The model that ranks and, for strategies that ask it, that of the round before.

    Raises:
        JobError: the strategy cannot use the model.
    """
    required = strategy.required
    predictor = Predictor.load(checkpoint.find(folder, job.checkpoint), job.settings.device)
    training = folder.training() if required.earlier_run and not job.audit else None
    round_before = None if training is None else training.start_from
    available = Available(
        run=folder.name,
        predicts=not predictor.header.features_only,
        dropout=bool(predictor.network.dropout_layers),
        earlier_run=job.audit or round_before is not None,
    )
    required.check(strategy.name, available)
    if round_before is None:
        return predictor, None
    path = checkpoint.find(project.run(round_before))
    return predictor, Predictor.load(path, job.settings.device)


def _ranked(
    project: Project,
    volumes: list[Volume],
    predictors: tuple[Predictor | None, Predictor | None],
    strategy: Strategy,
    settings: QuerySettings,
    folder: RunFolder | None,
) -> Generator[Event, None, Regions]:
    """The best of all volumes, by the model and, for strategies that ask it, that of the round before."""
    found, (predictor, earlier) = [], predictors
    places = [entry.name for entry in project.volumes.targets()]
    for volume in volumes:
        # a lot of its own, else targets of one size are asked at the same places
        own = settings.model_copy(update={"seed": settings.seed + places.index(volume.name)})
        seen = _decided(project, volume.name)
        uncertainty = None if folder is None else _between_classes(project, folder, volume.name)
        for event in suggest(predictor, volume, strategy, own, folder, seen, earlier, uncertainty):
            if isinstance(event, Suggested):
                found.append(event.regions)
            else:
                yield event
    return _merged(found, settings.count, settings.random_count)


def _between_classes(project: Project, folder: RunFolder, volume: str) -> Array | None:
    """Where a run is unsure between the classes that its clusters are named after; None where it has no names."""
    prediction = project.predictions.of(folder.name, volume)
    if prediction is None or not prediction.outputs.cluster_names:
        return None
    return prediction.uncertainty


def _predicted(
    predictor: Predictor, volume: Volume, folder: RunFolder, settings: QuerySettings
) -> Iterator[Event]:
    if not StoredPrediction(folder, volume.name).complete(predictor.header.model, uncertainty=True):
        yield from predict(predictor, volume, PredictSettings(device=settings.device), folder)


def _targets(project: Project, volume: str | None) -> list[Volume]:
    """The target asked for, or all; JobError when there is none."""
    first = project.volumes.target()
    if not volume:
        return project.volumes.open_all("target")
    if project.volumes.entry(volume).domain != "target":
        raise JobError(
            f"'{volume}' is a source, whose labels are known: choose a target, such as '{first.name}'."
        )
    return [project.volumes.open(volume)]


def _decided(project: Project, volume: str) -> list[Box]:
    """What the user has seen to already."""
    return [r.voxels for r in project.regions.all() if r.volume == volume and r.decided]


def _drawn(project: Project, volumes: list[Volume], settings: QuerySettings) -> Regions:
    """The patches of an audit; another round draws another lot."""
    annotated = {v.name: [*_decided(project, v.name), *painted(v, settings.patch)] for v in volumes}
    shapes = {volume.name: volume.shape for volume in volumes}
    lot = draw(
        shapes,
        annotated,
        patch=settings.patch,
        count=settings.count,
        seed=settings.seed + project.regions.round,
    )
    return tuple({"volume": name, "box": str(box), "score": 0.0} for name, box in lot)


def _merged(found: list[Regions], count: int, random_count: int) -> Regions:
    """The best of several volumes, each given best first, in one queue.

    Those by lot come last. The highest lots of all make every position as likely as any other, whatever its volume.
    """
    queues = [[region for region in regions if "tie_breaker" not in region] for regions in found]
    lots = [region for regions in found for region in regions if "tie_breaker" in region]
    drawn = sorted(lots, key=lambda region: -float(region["tie_breaker"]))[:random_count]
    drawn = [
        {key: value for key, value in region.items() if key != "tie_breaker"} for region in drawn
    ]
    merged: list[dict[str, Any]] = []
    while len(merged) < count - len(drawn) and any(queues):
        best = max((queue for queue in queues if queue), key=lambda queue: float(queue[0]["score"]))
        merged.append(best.pop(0))
    return (*merged, *drawn)
