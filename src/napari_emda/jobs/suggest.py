"""Suggesting which patches of the targets to annotate next, or drawing patches for an audit."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from functools import partial
from typing import Any

from napari_emda.active_learning.candidates import Candidates
from napari_emda.active_learning.measurement import predict_once
from napari_emda.active_learning.random_audit import draw, painted
from napari_emda.active_learning.strategy import Strategy, strategies
from napari_emda.active_learning.suggest import suggest
from napari_emda.data.array import Array
from napari_emda.data.box import Box
from napari_emda.data.padding import PatchPadding
from napari_emda.data.volume import Volume
from napari_emda.errors import JobError
from napari_emda.events import Event, Finished, Notice, Phase, Started, Suggested, phases
from napari_emda.inference import checkpoint
from napari_emda.inference.predict import part_around
from napari_emda.inference.predictor import Predictor
from napari_emda.jobs.inputs import backed_up, remarks
from napari_emda.jobs.preview import PreviewRequest
from napari_emda.jobs.workers.pool import open_workers
from napari_emda.project.job_files import SuggestJob
from napari_emda.project.project import Project
from napari_emda.project.region import AUDIT
from napari_emda.project.run_folder import RunFolder
from napari_emda.settings.requirements import Available
from napari_emda.settings.suggestion import QuerySettings

Regions = tuple[dict[str, Any], ...]
"""Suggested patches, best first, as in `napari_emda.events.Suggested`."""


def run(job: SuggestJob, _: PreviewRequest) -> Iterator[Event]:
    """Rank or draw patches of one or all targets; whoever runs the job records them.

    Yields:
        Started, Phase, TileDone while predicting, Suggested with the best of all volumes, Finished.

    Raises:
        EmdaError: the job, or something that it names, cannot be used.
    """
    project = Project.open(job.project)
    cls = strategies[job.settings.strategy]
    strategy = cls(cls.Settings.parse(job.strategy_settings))
    volumes = _targets(project, job.volume)
    folder = _run_folder(project, job, strategy)
    predictor = None
    earlier = None
    if folder is not None:
        predictor, earlier = _models(project, folder, job, strategy)
    if not job.audit:
        # Raises if a patch does not fit, before a prediction that may take hours.
        for volume in volumes:
            Candidates.of(volume.shape, job.settings.patch, box=job.settings.box)
    name = "" if folder is None else folder.name
    with open_workers(job.where, project.folder) as workers:
        here = "cpu" if predictor is None else str(predictor.compute)
        yield Started("suggest", name, here if workers is None else str(workers), 0)
        yield from remarks(project, name or None)
        yield from backed_up(project)
        if workers is not None and predictor is not None:
            yield from workers.prepare()
            predictor.workers = workers
        regions = yield from _chosen(project, volumes, (predictor, earlier), strategy, job, folder)
    yield Suggested(regions)
    strategy_name = AUDIT if job.audit else cls.name
    result = {"run": name or None, "strategy": strategy_name, "regions": list(regions)}
    at_random = strategy_name in (AUDIT, "random")
    how = "drawn at random" if at_random else f"suggested by {strategy_name}"
    count = "1 patch is" if len(regions) == 1 else f"{len(regions)} patches are"
    yield Finished("done", f"{count} {how}.", result)


def _chosen(
    project: Project,
    volumes: list[Volume],
    models: tuple[Predictor | None, Predictor | None],
    strategy: Strategy,
    job: SuggestJob,
    folder: RunFolder | None,
) -> Generator[Event, None, Regions]:
    """The patches, ranked or drawn, after what they hold is predicted; see `_ranked`."""
    predictor, _ = models
    plan = _plan(job, strategy, len(volumes), predictor)
    if job.audit:
        regions = _audit(project, volumes, job.settings)
        if len(regions) < job.settings.count:
            yield Notice(
                f"Only {len(regions)} of the {job.settings.count} patches were drawn: all others "
                f"of {job.settings.patch} pixels hold annotations or lie in padding. Choose a "
                "smaller patch for more."
            )
    else:
        regions = yield from _ranked(project, volumes, models, strategy, job.settings, folder, plan)
    if predictor is not None and folder is not None:
        # The user annotates a patch by correcting its prediction, also of patches drawn at random.
        yield from _predicted(predictor, volumes, folder, job.settings, regions, plan)
    return regions


def _plan(
    job: SuggestJob, strategy: Strategy, volumes: int, predictor: Predictor | None
) -> Iterator[Phase]:
    """The phases of a job on some volumes."""
    # Without measurements, choosing takes a moment.
    measures = strategy.measures or strategy.needs_embeddings or strategy.needs_entropy
    choosing = ("Measuring the patches", 1.0) if measures else ("Choosing the patches", 0.1)
    return phases(
        *([] if job.audit else [choosing] * volumes),
        *([("Predicting", 0.1)] if predictor is not None else []),
    )


def _predicted(
    predictor: Predictor,
    volumes: list[Volume],
    folder: RunFolder,
    settings: QuerySettings,
    regions: Regions,
    plan: Iterator[Phase],
) -> Iterator[Event]:
    """Predict what the patches of the volumes hold, unless it is predicted."""
    yield next(plan)
    for volume in volumes:
        boxes = [
            Box.parse(region["box"], volume.shape)
            for region in regions
            if region["volume"] == volume.name
        ]
        if boxes:
            part = part_around(volume, boxes)
            yield from predict_once(predictor, volume, settings, folder, part)


def _run_folder(project: Project, job: SuggestJob, strategy: Strategy) -> RunFolder | None:
    """The run whose model is used; None if neither the job nor the strategy needs a model."""
    needs_model = strategy.required.model != "none" and not job.audit
    if job.run is None and not needs_model:
        return None
    if job.run is None and not project.runs.names():
        # The strategy's own message names strategies that need no model.
        strategy.required.check(strategy.name, Available())
    return project.run(job.run)


def _models(
    project: Project, folder: RunFolder, job: SuggestJob, strategy: Strategy
) -> tuple[Predictor, Predictor | None]:
    """The model that ranks and, for strategies that compare two, that of the round before.

    Raises:
        JobError: the strategy cannot use the model.
    """
    required = strategy.required
    predictor = Predictor.load(checkpoint.find(folder, job.checkpoint), job.settings.device)
    training = folder.training() if required.earlier_run and not job.audit else None
    earlier_run = None if training is None else training.start_from
    available = Available(
        run=folder.name,
        predicts=not predictor.header.features_only,
        dropout=bool(predictor.network.dropout_layers),
        # An audit ranks nothing, so it needs no second model whatever the strategy.
        earlier_run=job.audit or earlier_run is not None,
    )
    required.check(strategy.name, available)
    if earlier_run is None:
        return predictor, None
    path = checkpoint.find(project.run(earlier_run))
    return predictor, Predictor.load(path, job.settings.device)


def _ranked(
    project: Project,
    volumes: list[Volume],
    models: tuple[Predictor | None, Predictor | None],
    strategy: Strategy,
    settings: QuerySettings,
    folder: RunFolder | None,
    plan: Iterator[Phase],
) -> Generator[Event, None, Regions]:
    """The best patches of all volumes.

    Args:
        project: its annotated regions are left out.
        volumes: the targets to choose from.
        models: the one that ranks, and that of the round before; None where not needed.
        strategy: ranks the patches.
        settings: how many patches, and how large.
        folder: of the run whose model ranks, if any.
        plan: the phases that begin with each volume.
    """
    predictor, earlier = models
    by_volume: list[Regions] = []
    targets = [entry.name for entry in project.volumes.targets()]
    for volume in volumes:
        # With one seed, targets of equal size would get their random patches at the same places.
        # The target's position in the project, and not in this job, keeps a volume's seed the same.
        seed = settings.seed + targets.index(volume.name)
        volume_settings = settings.model_copy(update={"seed": seed})
        decided = _decided(project, volume.name)
        yield next(plan)
        entropy = partial(_class_uncertainty, project, folder, volume.name)
        for event in suggest(
            predictor, volume, strategy, volume_settings, folder, decided, earlier, entropy
        ):
            if isinstance(event, Suggested):
                by_volume.append(event.regions)
            else:
                yield event
    return _merged(by_volume, settings.count, settings.random_count)


def _class_uncertainty(project: Project, folder: RunFolder | None, volume: str) -> Array | None:
    """Uncertainty between the classes after which clusters are named, uint8 (z, y, x).

    None if the run predicts classes, or if no cluster has a name.
    """
    if folder is None:
        return None
    prediction = project.predictions.of(folder.name, volume)
    if prediction is None or not prediction.outputs.cluster_names:
        return None
    return prediction.uncertainty


def _targets(project: Project, volume: str | None) -> list[Volume]:
    """The target of that name, or all targets; JobError if there is none."""
    first = project.volumes.target()
    if not volume:
        return project.volumes.open_all("target")
    if project.volumes.entry(volume).domain != "target":
        raise JobError(
            f"'{volume}' is a source and has labels already: choose a target, such as "
            f"'{first.name}'."
        )
    return [project.volumes.open(volume)]


def _decided(project: Project, volume: str) -> list[Box]:
    """Regions that the user has annotated or skipped."""
    return [r.voxels for r in project.regions.all() if r.volume == volume and r.decided]


def _audit(project: Project, volumes: list[Volume], settings: QuerySettings) -> Regions:
    """Random patches without annotations, in another draw for each round."""
    annotated = {v.name: [*_decided(project, v.name), *painted(v, settings.patch)] for v in volumes}
    padding = {volume.name: PatchPadding(volume) for volume in volumes}
    drawn = draw(
        {volume.name: volume.shape for volume in volumes},
        annotated,
        patch=settings.patch,
        count=settings.count,
        seed=settings.seed + project.regions.round,
        padding=lambda name, box: padding[name].too_much(box),
    )
    return tuple({"volume": name, "box": str(box), "score": 0.0} for name, box in drawn)


def _merged(by_volume: list[Regions], count: int, random_count: int) -> Regions:
    """The best patches of several volumes in one list, the randomly drawn ones last.

    Args:
        by_volume: the patches of each volume, best first.
        count: how many to return in all.
        random_count: how many of them are random.
    """
    # Random patches carry the number by which they were drawn, the highest of their volume. Keeping
    # the highest of all volumes is the same as one draw from all positions of all volumes, so every
    # position is equally likely.
    drawn = [region for regions in by_volume for region in regions if "tie_breaker" in region]
    drawn.sort(key=lambda region: -float(region["tie_breaker"]))
    random_regions = [
        {key: value for key, value in region.items() if key != "tie_breaker"}
        for region in drawn[:random_count]
    ]
    # Only the heads are compared, so the order that the strategy gave a volume's patches is kept.
    # It need not be the order of their scores: a strategy may score again after every pick.
    queues = [
        [region for region in regions if "tie_breaker" not in region] for regions in by_volume
    ]
    ranked: list[dict[str, Any]] = []
    while len(ranked) < count - len(random_regions) and any(queues):
        best = max((queue for queue in queues if queue), key=lambda queue: float(queue[0]["score"]))
        ranked.append(best.pop(0))
    return (*ranked, *random_regions)
