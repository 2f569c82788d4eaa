"""Finding and measuring the objects of a volume, which are kept in the run's folder."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from napari_emda.data.probabilities import ClassProbability
from napari_emda.data.volume import Volume
from napari_emda.errors import EmdaError
from napari_emda.events import Event, Finished, Started, phases
from napari_emda.export.objects import ObjectsExporter
from napari_emda.inference import checkpoint
from napari_emda.jobs.inputs import (
    check_has_classes,
    check_predicts,
    check_writable,
    ensure_predicted,
    model_of,
    prediction_of,
    remarks,
    unused_maps,
    volume_of,
)
from napari_emda.jobs.preview import PreviewRequest
from napari_emda.jobs.workers.pool import JobWorkers
from napari_emda.objects.edited import EditedObjects
from napari_emda.objects.replay import replay, splitter
from napari_emda.objects.table import Table
from napari_emda.project.found_objects import Description, FoundObjects
from napari_emda.project.job_files import ObjectsJob
from napari_emda.project.predictions import Prediction
from napari_emda.project.project import Project
from napari_emda.project.stored_calibration import described
from napari_emda.project.storing_objects import store_objects


def run(job: ObjectsJob, _: PreviewRequest) -> Iterator[Event]:
    """Find the objects of a volume and measure them.

    They replace those of the volume that were found before, all at once, in the folder
    ``objects/<volume>`` of the run: for each class k, from 1, ``k.zarr`` with the ids (z, y, x;
    uint32), ``k.csv`` with the table and ``k-queue.csv`` with how suspicious each object is;
    ``objects.json`` says how they were found. The files hold the objects as they were found, the
    numbers in the result contain their edits.

    Yields:
        Started, Phase, TileDone, Finished with the ``path`` and the numbers of each class.

    Raises:
        EmdaError: there is no such run, volume or class, or the project is read-only.
    """
    project = Project.open(job.project)
    with JobWorkers(job.where, project.folder) as workers:
        yield from _run(job, project, workers)


def _run(job: ObjectsJob, project: Project, workers: JobWorkers) -> Iterator[Event]:
    folder = project.run(job.run)
    volume = volume_of(project, job)
    # Everything that can be refused is refused before the prediction, which may take hours.
    header = checkpoint.read_header(model_of(project, job))
    check_predicts(folder, header)
    outputs = project.predictions.outputs(folder.name, header.classes)
    check_has_classes(folder, outputs)
    names = outputs.reported[1:]
    if job.class_name is None:
        class_ids = tuple(range(1, len(names) + 1))
    else:
        class_ids = ObjectsExporter.class_ids(names, job.class_name)
    check_writable(project)
    yield Started("objects", folder.name, "cpu", 0)
    yield from remarks(project, folder.name)
    plan = phases(("Predicting", 1.0), ("Finding objects", 0.5))
    yield next(plan)
    state = yield from ensure_predicted(
        project, folder.name, volume.name, job.checkpoint, None, workers
    )
    runner = yield from workers.runner(volume, folder.path)
    yield next(plan)
    prediction = prediction_of(project, folder, volume.name, state)
    yield from unused_maps(prediction, job.settings)
    description = Description(
        run=folder.name,
        checkpoint=job.checkpoint,
        prediction=described(folder, volume.name),
        clusters=dict(outputs.cluster_names),
        volume=volume.name,
        settings=job.settings,
        classes={class_id: names[class_id - 1] for class_id in class_ids},
    )
    path = folder.objects(volume.name)
    sources = [source for source in _sources(project) if source.name != volume.name]
    found = yield from store_objects(path, description, prediction, volume.grid, sources, runner)
    numbers = {}
    sentences = []
    for class_id, name in description.classes.items():
        objects, sentence = _edited(project, volume, found, prediction, class_id)
        sentences.append(sentence)
        numbers[name] = _summary(found.table(class_id).columns, objects)
    counts = ", ".join(f"{found['objects']} of {name}" for name, found in numbers.items())
    result = {
        "run": folder.name,
        "volume": volume.name,
        "path": str(path),
        "classes": numbers,
    }
    text = f"Objects in '{volume.name}' (run {folder.name}): {counts}."
    yield Finished("done", " ".join([text, *filter(None, sentences)]), result)


def _edited(
    project: Project, volume: Volume, found: FoundObjects, prediction: Prediction, class_id: int
) -> tuple[EditedObjects, str]:
    """The objects of a class after their edits, and what became of these in a sentence."""
    description = found.description
    objects = EditedObjects(found.ids(class_id), found.table(class_id).extents)
    edits = project.object_edits.of(volume.name, description.classes[class_id])
    probability = ClassProbability(prediction.reported, class_id)
    cut = splitter(volume.grid, probability, prediction.object_maps)
    replayed = replay(objects, edits, description.identity(class_id), cut)
    return objects, replayed.sentence()


def _sources(project: Project) -> Iterator[Volume]:
    """The sources that can be read: objects are found without them, too."""
    for entry in project.volumes.entries:
        if entry.domain == "source" and entry.labels is not None:
            with contextlib.suppress(EmdaError):
                yield project.volumes.open(entry.name)


def _summary(table: Table, objects: EditedObjects) -> dict[str, Any]:
    """Number of objects, and their size: ``volume (nm^3)``, or the area in independent images."""
    size = next(name for name in table if name.startswith(("volume (", "area (")))
    # Of one voxel, from any object that was found.
    unit = table[size][0] / table["voxels"][0] if len(table["id"]) else 0.0
    sizes = objects.extents.voxels[objects.ids] * unit
    return {
        "objects": len(sizes),
        "size": size,
        "total": float(sizes.sum()),
        "median": float(np.median(sizes)) if len(sizes) else None,
    }
