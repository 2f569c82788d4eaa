"""Comparing a prediction with true labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from napari_emda.data.box import Box
from napari_emda.evaluation.object_scores import score_objects
from napari_emda.evaluation.voxel_scores import score_volume
from napari_emda.events import Event, Finished, Started
from napari_emda.inference import checkpoint
from napari_emda.io.checks import check_labels
from napari_emda.io.read import open_labels
from napari_emda.jobs.inputs import (
    check_predicts,
    check_says_classes,
    ensure_predicted,
    model_of,
    prediction_of,
    volume_of,
)
from napari_emda.jobs.preview import PreviewRequest
from napari_emda.project import comparison
from napari_emda.project.job_files import ScoreJob
from napari_emda.project.project import Project


def run(job: ScoreJob, _: PreviewRequest) -> Iterator[Event]:
    """Score a prediction voxel by voxel and, where asked, object by object.

    Raises:
        EmdaError: there is no such run or volume, or the labels do not fit it.
    """
    project = Project.open(job.project)
    folder = project.run(job.run)
    volume = volume_of(project, job)
    labels = open_labels(Path(job.against)).array
    check_labels(volume.name, labels, volume.shape, len(project.classes))
    truth = replace(volume, labels=labels, labels_zero="background", annotations=None)
    box = Box.parse(job.box, volume.shape)
    header = checkpoint.read_header(model_of(project, job))
    check_predicts(folder, header)
    outputs = project.predictions.outputs(folder.name, header.classes)
    check_says_classes(folder, outputs)
    yield Started("score", folder.name, "cpu", 0)
    yield from ensure_predicted(project, folder.name, volume.name, job.checkpoint)
    probabilities = prediction_of(project, folder, volume.name).reported
    scores = score_volume(probabilities, truth.class_ids, project.classes, box)
    scores.setdefault(
        "classes", {project.classes[1]: {k: v for k, v in scores.items() if k != "voxels"}}
    )
    if job.objects:
        counted = yield from score_objects(
            probabilities,
            labels,
            project.classes,
            box=box,
            minimum_size=job.minimum_size,
            volume=volume.name,
            sections_are_independent=volume.grid.sections_are_independent,
        )
        scores["classes"] = {
            name: {**row, "objects": counted[name]} for name, row in scores["classes"].items()
        }
    result = {
        "run": folder.name,
        "volume": volume.name,
        "box": str(box),
        **scores,
        "source_only": None,
        "helped": None,
    }
    text = f"'{volume.name}' (run {folder.name}) has IoU {scores['iou']:.3f}."
    runs = None if outputs.are_clusters else comparison.pair(project, folder.name)
    if runs is not None and runs[0] == folder.name:
        plain = runs[1]
        yield from ensure_predicted(project, plain, volume.name)
        compared_with = prediction_of(project, project.run(plain), volume.name).reported
        other = score_volume(compared_with, truth.class_ids, project.classes, box)["iou"]
        found = comparison.by_iou(scores["iou"], other, plain)
        compared = {"run": plain, "iou": other, "difference": scores["iou"] - other}
        result |= {"source_only": compared, "helped": found.helped}
        text = f"{text} {found.text}"
    yield Finished("done", text, result)
