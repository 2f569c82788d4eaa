"""Finding and measuring the objects of a volume, which are kept in the run's folder."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from napari_emda.data.probabilities import ClassProbability
from napari_emda.data.volume import Volume
from napari_emda.events import Event, Finished, Started, TileDone, phases, stage
from napari_emda.export.objects import ObjectsExporter
from napari_emda.inference import checkpoint
from napari_emda.io.atomic import replacing_folder
from napari_emda.io.checked_store import open_array
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
from napari_emda.objects.edited import EditedObjects
from napari_emda.objects.replay import replay, splitter
from napari_emda.objects.separation import find_separate_objects_in
from napari_emda.objects.suspicion import find_suspicious
from napari_emda.objects.table import Table, measure_objects
from napari_emda.objects.table_file import write_csv
from napari_emda.project.found_objects import (
    DESCRIPTION,
    Description,
    ObjectTable,
    queue_file,
)
from napari_emda.project.job_files import ObjectsJob
from napari_emda.project.predictions import Prediction
from napari_emda.project.project import Project
from napari_emda.project.stored_prediction import StoredPrediction
from napari_emda.settings.objects import SeparationSettings


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
    state = yield from ensure_predicted(project, folder.name, volume.name, job.checkpoint)
    yield next(plan)
    prediction = prediction_of(project, folder, volume.name, state)
    yield from unused_maps(prediction, job.settings)
    path = folder.objects(volume.name)
    path.parent.mkdir(exist_ok=True)
    numbers = {}
    sentences = []
    description = Description(
        run=folder.name,
        checkpoint=job.checkpoint,
        prediction=StoredPrediction(folder, volume.name).header,
        clusters=dict(outputs.cluster_names),
        volume=volume.name,
        settings=job.settings,
        classes={class_id: names[class_id - 1] for class_id in class_ids},
    )
    with replacing_folder(path) as partial:
        partial.mkdir()
        for index, class_id in enumerate(class_ids):
            search = _find(partial, prediction, volume, class_id, job.settings)
            table = yield from stage(search, index, len(class_ids))
            name = names[class_id - 1]
            objects = EditedObjects(
                open_array(partial / f"{class_id}.zarr"), ObjectTable(table).extents
            )
            replayed = replay(
                objects,
                project.object_edits.of(volume.name, name),
                description.identity(class_id),
                splitter(volume.grid, ClassProbability(prediction.reported, class_id)),
            )
            sentences.append(replayed.sentence())
            numbers[name] = _summary(table, objects)
        text = description.model_dump_json(indent=2) + "\n"
        (partial / DESCRIPTION).write_text(text, encoding="utf-8")
    counts = ", ".join(f"{found['objects']} of {name}" for name, found in numbers.items())
    result = {
        "run": folder.name,
        "volume": volume.name,
        "path": str(path),
        "classes": numbers,
    }
    text = f"Objects in '{volume.name}' (run {folder.name}): {counts}."
    yield Finished("done", " ".join([text, *filter(None, sentences)]), result)


def _find(
    folder: Path,
    prediction: Prediction,
    volume: Volume,
    class_id: int,
    settings: SeparationSettings,
) -> Generator[TileDone, None, Table]:
    probabilities = prediction.reported
    search = find_separate_objects_in(
        folder,
        probabilities,
        settings,
        volume.grid,
        class_id,
        volume.name,
        prediction.object_maps,
    )
    objects, _ = yield from stage(search, 0, 3)
    probability = ClassProbability(prediction.reported, class_id)
    measurement = measure_objects(objects, volume.grid, probability, volume.name)
    table = yield from stage(measurement, 1, 3)
    write_csv(table, folder / f"{class_id}.csv")
    ranking = find_suspicious(
        folder,
        objects,
        table,
        volume.grid,
        probability,
        neck=settings.separate,
        volume=volume.name,
    )
    queue = yield from stage(ranking, 2, 3)
    write_csv(queue, folder / queue_file(class_id))
    return table


def _summary(table: Table, objects: EditedObjects) -> dict[str, Any]:
    """Number of objects, and their size: ``volume (nm^3)``, or the area in independent images."""
    size = next(name for name in table if name.startswith(("volume (", "area (")))
    # Of one voxel, from any object that was found.
    unit = table[size][0] / table["voxels"][0] if len(table["id"]) else 0.0
    sizes = np.array([objects.voxels(number) for number in objects.ids.tolist()]) * unit
    return {
        "objects": len(sizes),
        "size": size,
        "total": float(sizes.sum()),
        "median": float(np.median(sizes)) if len(sizes) else None,
    }
