"""Writing a result to a file of the user's choice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from napari_emda.data.box import Box
from napari_emda.data.intensity import PERCENTILES
from napari_emda.data.volume import Volume
from napari_emda.events import Event, Finished, Started
from napari_emda.export.bioimageio import ModelCard
from napari_emda.export.results import (
    export_mask,
    export_model,
    export_objects,
    export_probabilities,
    export_table,
)
from napari_emda.inference import checkpoint
from napari_emda.inference.predictor import Predictor
from napari_emda.io.write import VOLUME_SUFFIXES, claim
from napari_emda.jobs.inputs import (
    check_clusters_named,
    check_predicts,
    class_probabilities,
    ensure_predicted,
    model_of,
    volume_of,
)
from napari_emda.jobs.preview import PreviewRequest
from napari_emda.nn.network import WithSoftmax
from napari_emda.project.job_files import ExportJob
from napari_emda.project.project import Project

SUFFIXES = {
    **dict.fromkeys(("mask", "objects", "probabilities"), VOLUME_SUFFIXES),
    "table": (".csv",),
    "model": (".zip",),
}


def run(job: ExportJob, _: PreviewRequest) -> Iterator[Event]:
    """Write what a run makes of a volume, or its model.

    Raises:
        EmdaError: there is no such run or volume, or the file cannot be written.
    """
    project = Project.open(job.project)
    folder = project.run(job.run)
    volume = volume_of(project, job)
    claim(job.to, SUFFIXES[job.what], job.overwrite)  # before a long prediction, not after it
    header = checkpoint.read_header(model_of(project, job))
    check_predicts(folder, header)
    if job.what in ("objects", "table"):
        check_clusters_named(project, folder, header)
    yield Started("export", folder.name, "cpu", 0)
    if job.what == "model":
        yield from _export_model(job, folder, volume)
    else:
        yield from ensure_predicted(project, folder.name, volume.name, job.checkpoint)
        yield from _export_prediction(job, project, folder, volume)
    text = f"Exported {job.what} of '{volume.name}' (run {folder.name}) to {job.to}."
    yield Finished("done", text, {"path": job.to})


def _export_prediction(
    job: ExportJob, project: Project, folder: Path, volume: Volume
) -> Iterator[Event]:
    """Of clusters without names, a mask holds their numbers."""
    clusters = project.clusters(folder.name, volume.name)
    as_they_are = (
        clusters is not None
        and not project.names(folder.name)
        and job.what in ("mask", "probabilities")
    )
    probabilities = (
        clusters
        if as_they_are and clusters is not None
        else class_probabilities(project, folder, volume.name)
    )
    data = (probabilities, job.to, volume.grid)
    kept: dict[str, Any] = {"overwrite": job.overwrite, "volume": volume.name}
    if job.what == "probabilities":
        yield from export_probabilities(*data, **kept)
        return
    write = {"mask": export_mask, "objects": export_objects, "table": export_table}[job.what]
    yield from write(*data, threshold=job.threshold, minimum_size=job.minimum_size, **kept)


def _export_model(job: ExportJob, folder: Path, volume: Volume) -> Iterator[Event]:
    predictor = Predictor.load(checkpoint.find(folder, job.checkpoint), "cpu", "32")
    header = predictor.header
    network, statistics = predictor.network.eval(), predictor.statistics_of(volume)
    side = 2 * network.halo + network.stride  # both are multiples of the stride
    example = volume.at(header.pixel_size).read(Box((0, 0, 0), (1, side, side)))[0]
    card = ModelCard(
        name=f"napari-emda {header.method} {folder.name}",
        description=f"Segments {', '.join(header.classes[1:])} in sections of volume electron microscopy.",
        classes=header.classes,
        grid=replace(volume.grid.with_pixel_size(header.pixel_size), unit=header.unit),
    )
    yield from export_model(
        WithSoftmax(network, predictor.domain_of(volume)),
        job.to,
        example,
        card,
        stride=network.stride,
        halo=network.halo,
        mean=statistics.mean,
        standard_deviation=statistics.std,
        percentiles=PERCENTILES if statistics.ranges else None,
        overwrite=job.overwrite,
    )
