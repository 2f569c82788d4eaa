"""Comparing a prediction with true labels."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from napari_emda.data.array import Array
from napari_emda.data.box import Box
from napari_emda.data.label_meaning import MeantLabels, ObjectNumbers
from napari_emda.data.volume import Volume
from napari_emda.errors import DataError
from napari_emda.evaluation.contingency import LARGEST_ID
from napari_emda.evaluation.object_scores import score_objects
from napari_emda.evaluation.voxel_scores import score_volume
from napari_emda.events import Event, Finished, Phase, Started, phases
from napari_emda.inference import checkpoint
from napari_emda.io.checks import check_labels
from napari_emda.io.read import open_labels
from napari_emda.jobs.inputs import (
    check_has_classes,
    check_predicts,
    ensure_predicted,
    model_of,
    prediction_of,
    remarks,
    unused_maps,
    volume_of,
)
from napari_emda.jobs.preview import PreviewRequest
from napari_emda.jobs.workers.pool import JobWorkers
from napari_emda.project import comparison
from napari_emda.project.job_files import ScoreJob
from napari_emda.project.predictions import Prediction
from napari_emda.project.project import Project


def run(job: ScoreJob, _: PreviewRequest) -> Iterator[Event]:
    """Score a prediction voxel by voxel and, if the job asks for it, object by object.

    Where the run adapts and a comparable run without adaptation exists, that one is scored as well,
    so that the result tells whether adapting helped.

    Yields:
        Started, Phase, TileDone while predicting and counting objects, Finished with the scores.

    Raises:
        EmdaError: there is no such run or volume, or the labels do not fit it.
    """
    project = Project.open(job.project)
    with JobWorkers(job.where, project.folder) as workers:
        yield from _run(job, project, workers)


def _run(job: ScoreJob, project: Project, workers: JobWorkers) -> Iterator[Event]:
    folder = project.run(job.run)
    truth, true_objects = _truth(project, job)
    box = Box.parse(job.box, truth.shape)
    # Refuse before predicting, which may take hours.
    header = checkpoint.read_header(model_of(project, job))
    check_predicts(folder, header)
    outputs = project.predictions.outputs(folder.name, header.classes)
    check_has_classes(folder, outputs)
    yield Started("score", folder.name, "cpu", 0)
    yield from remarks(project, folder.name)
    runs = None if outputs.are_clusters else comparison.pair(project, folder.name)
    # ``pair`` names the run that adapts first. A run without adaptation needs no comparison.
    compares = runs is not None and runs[0] == folder.name
    plan = _plan(compares=compares)
    yield next(plan)
    state = yield from ensure_predicted(
        project, folder.name, truth.name, job.checkpoint, box, workers
    )
    yield next(plan)
    prediction = prediction_of(project, folder, truth.name, state)
    if job.objects:
        yield from unused_maps(prediction, job.object_settings)
    scores = yield from _scores(prediction, truth, true_objects, project.classes, box, job)
    result = {
        "run": folder.name,
        "volume": truth.name,
        "box": str(box),
        **scores,
        "source_only": None,
        "helped": None,
    }
    text = f"'{truth.name}' (run {folder.name}) has IoU {scores['iou']:.3f}."
    if runs is not None and compares:
        yield next(plan)
        compared, sentence = yield from _compared(
            project, runs[1], truth, box, scores["iou"], workers
        )
        result |= compared
        text = f"{text} {sentence}"
    yield Finished("done", text, result)


def _plan(*, compares: bool) -> Iterator[Phase]:
    """The phases; ``compares`` is whether a run without adaptation is scored as well."""
    # Comparing reads each voxel once and asks no network.
    compared = [("Scoring the run without adaptation", 1.3)] if compares else []
    return phases(("Predicting", 1.0), ("Comparing with the labels", 0.3), *compared)


def _truth(project: Project, job: ScoreJob) -> tuple[Volume, Array]:
    """The volume with the job's label image as its labels, and the true objects."""
    volume = volume_of(project, job)
    labels = open_labels(Path(job.against)).array
    meaning = job.meaning
    classes = len(project.classes)
    values = check_labels(
        volume.name, labels, volume.shape, classes, meaning=meaning, one_class=meaning.is_partial
    )
    numbers = [value for value in values if value != (meaning.background or 0)]
    # A single number is a mask, whatever the number: its objects are connected voxels.
    numbered = classes == 2 and len(numbers) > 1
    if job.objects and numbered and max(numbers) > LARGEST_ID:
        raise DataError(
            f"The labels '{job.against}' have the object id {max(numbers)}: renumber the objects "
            f"from 1 to at most {LARGEST_ID}."
        )
    objects = ObjectNumbers(labels, meaning, classes, numbered=numbered)
    # Annotations would take the place of the labels in ``Volume.class_ids``.
    meant = MeantLabels(labels, meaning, classes)
    return replace(volume, labels=meant, labels_zero="unannotated", annotations=None), objects


def _scores(
    prediction: Prediction,
    truth: Volume,
    true_objects: Array,
    classes: tuple[str, ...],
    box: Box,
    job: ScoreJob,
) -> Generator[Event, None, dict[str, Any]]:
    """The scores of all classes together, and of each one under ``classes``."""
    probabilities = prediction.reported
    scores = score_volume(probabilities, truth.class_ids, classes, box)
    # With one foreground class `score_volume` returns no ``classes``, but scripts rely on the key.
    only_class = {key: value for key, value in scores.items() if key != "voxels"}
    scores.setdefault("classes", {classes[1]: only_class})
    if job.objects:
        object_scores = yield from score_objects(
            probabilities,
            true_objects,
            classes,
            truth.grid,
            box=box,
            settings=job.object_settings,
            # Reading every label twice is worth it only where some say that nobody looked.
            labelled=truth.labels if job.ignore else None,
            maps=prediction.object_maps,
            volume=truth.name,
        )
        scores["classes"] = {
            name: {**class_scores, "objects": object_scores[name]}
            for name, class_scores in scores["classes"].items()
        }
    return scores


def _compared(
    project: Project, baseline: str, truth: Volume, box: Box, iou: float, workers: JobWorkers
) -> Generator[Event, None, tuple[dict[str, Any], str]]:
    """Whether adapting helped, by the IoU of the run without adaptation; results and a sentence."""
    state = yield from ensure_predicted(project, baseline, truth.name, box=box, workers=workers)
    folder = project.run(baseline)
    probabilities = prediction_of(project, folder, truth.name, state).reported
    baseline_iou = score_volume(probabilities, truth.class_ids, project.classes, box)["iou"]
    outcome = comparison.by_iou(iou, baseline_iou, baseline)
    source_only = {"run": baseline, "iou": baseline_iou, "difference": iou - baseline_iou}
    return {"source_only": source_only, "helped": outcome.helped}, outcome.text
