"""Carries a job out: the same in a thread, a child process or on a cluster node."""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from napari_emda import checkpoint, selection, verdict
from napari_emda.checkpoint import Header
from napari_emda.data.box import Box
from napari_emda.data.checks import check_labels
from napari_emda.data.files import open_labels
from napari_emda.data.grey_values import PERCENTILES
from napari_emda.data.volume import Array, Volume
from napari_emda.errors import JobError
from napari_emda.events import Event, Finished, Started, Stepped
from napari_emda.export import export_mask, export_model, export_objects, export_probabilities, export_table
from napari_emda.jobs import AnyJob, ExportJob, PredictJob, ScoreJob, SuggestJob, TrainJob, read_job, write_job
from napari_emda.metrics import score_volume
from napari_emda.model_package import ModelCard
from napari_emda.nn.unet import WithSoftmax
from napari_emda.object_scores import score_objects
from napari_emda.predict import Prediction, Predictor, predict
from napari_emda.preparation import prepare
from napari_emda.previews import Previews, View
from napari_emda.project import Project
from napari_emda.saving import VOLUME_SUFFIXES, claim
from napari_emda.settings import PredictSettings
from napari_emda.suggestions import suggestions
from napari_emda.train import fit
from napari_emda.training import Training

SUFFIXES = {
    **dict.fromkeys(("mask", "objects", "probabilities"), VOLUME_SUFFIXES),
    "table": (".csv",),
    "model": (".zip",),
}


def execute(job: AnyJob, view: View | None = None) -> Generator[Event]:
    """Carry a job out; to stop it, stop iterating.

    Yields:
        Started, what the work says, and Finished at the end.

    Raises:
        EmdaError: the job or what it names cannot be used; nothing was changed on disk then.
    """
    if isinstance(job, TrainJob):
        yield from _train(job, view or View())
    elif isinstance(job, PredictJob):
        yield from _predict(job)
    elif isinstance(job, SuggestJob):
        yield from suggestions(job)
    elif isinstance(job, ScoreJob):
        yield from _score(job)
    else:
        yield from _export(job)


# -- training ----------------------------------------------------------------------------------------------------


def _train(job: TrainJob, view: View) -> Iterator[Event]:
    began = time.perf_counter()
    project = Project.open(job.project)
    folder = None
    if job.resume is not None:
        folder = project.run(job.resume)
        before = read_job(folder / "job.json")
        if not isinstance(before, TrainJob):
            raise JobError(f"'{job.resume}' is not a training run: name one.")
        job = before.model_copy(update={"project": job.project})
    training, volumes = prepare(project, job, folder)
    done = 0 if folder is None else checkpoint.read_header(checkpoint.find(folder, "last")).step
    if folder is None:
        training.folder = folder = _writable(project).new_run(job.method)
        write_job(job, folder / "job.json")
    yield Started("train", folder.name, str(training.compute), job.settings.steps)
    previews = Previews(training, volumes, view, folder)
    last = Stepped(done, job.settings.steps, {}, 0.0)
    with (folder / "log.jsonl").open("a", buffering=1) as log:
        for event in fit(training):
            log.write(event.to_json() + "\n")
            last = event if isinstance(event, Stepped) else last
            yield event
            yield from previews.due(last.step)
        finished = _outcome(project, training, folder, last, time.perf_counter() - began)
        log.write(finished.to_json() + "\n")
    yield from previews.last(checkpoint.find(folder), last.step)
    yield finished


def _outcome(project: Project, training: Training, folder: Path, last: Stepped, seconds: float) -> Finished:
    """What a training has come to: what was kept and why, whether it is any good, and whether adapting helped."""
    kept = checkpoint.read_header(checkpoint.find(folder))
    result = {
        "run": folder.name,
        "step": last.step,
        "selected_step": kept.step,
        "losses": last.losses,
        "seconds": round(seconds, 2),
        "device": str(training.compute),
    }
    sentences = [f"Run {folder.name} is trained; kept: {what_was_kept(kept)}."]
    if training.flat:
        sentences.insert(0, f"Stopped at step {last.step}, since nothing better came.")
    fallen = selection.warning(kept.scores) if selection.is_out_of_bounds(kept.scores) else ""
    warnings = [warning for warning in (fallen, training.method.alarm()) if warning]
    sentences += warnings
    result |= {"warnings": warnings} if warnings else {}
    if training.validator is not None:
        found = verdict.by_score(project, folder.name, partial(_score_of, project))
        runs = verdict.pair(project, folder.name)
        result |= {"scores": kept.scores, "helped": found.helped, "source_only": runs and runs[1]}
        sentences.append(found.text)
    return Finished("done", " ".join(sentences), result)


def what_was_kept(kept: Header) -> str:
    """Which model of a run is to be used, and why that."""
    if not kept.selected:
        return f"the model of the last step ({kept.step})"
    return selection.sentence(kept.selected, kept.settings.steps, kept.settings.keep)


def _score_of(project: Project, run: str) -> float | None:
    return checkpoint.read_header(checkpoint.find(project.run(run))).scores.get("score")


def _writable(project: Project) -> Project:
    if not os.access(project.folder, os.W_OK):
        raise JobError(f"The project '{project.folder}' is read-only: copy it to a folder that can be written.")
    return project


# -- using a model -----------------------------------------------------------------------------------------------


def _model(project: Project, job: PredictJob | SuggestJob | ScoreJob | ExportJob) -> Path:
    """The model that a job asks for; JobError when there is none."""
    return checkpoint.find(project.run(job.run), job.checkpoint)


def _asked(project: Project, volume: str | None) -> Volume:
    return project.volume(volume or project.target().name)


def _predict(job: PredictJob) -> Iterator[Event]:
    project = Project.open(job.project)
    folder, volume = project.run(job.run), _asked(project, job.volume)
    predictor = Predictor.load(_model(project, job), job.settings.device, job.settings.precision)
    _check_learnt(folder, predictor.header)
    if job.out is not None:
        claim(job.out, VOLUME_SUFFIXES, overwrite=False)
    _writable(project)
    yield Started("predict", folder.name, str(predictor.compute), 0)
    yield from predict(predictor, volume, job.settings, folder)
    path = str(folder / "probabilities.zarr" / volume.name)
    if job.out is not None:
        probabilities = Prediction(folder, volume.name).probabilities
        kept: dict[str, Any] = {"volume": volume.name, "depth": volume.depth}
        yield from export_probabilities(probabilities, job.out, volume.spacing, volume.unit, **kept)
        path = job.out
    result = {"run": folder.name, "volume": volume.name, "probabilities": path}
    classes = predictor.header.classes
    done = "predicted" if classes == project.classes else f"sorted into {len(classes) - 1} clusters"
    yield Finished("done", f"'{volume.name}' is {done} with run {folder.name}.", result)


def predicted(project: Project, run: str | None, volume: str | None, model: str = "selected") -> Generator[Event]:
    """Predict a volume with a run's model unless that was done already."""
    folder, entry = project.run(run), _asked(project, volume)
    path = checkpoint.find(folder, model)
    if not Prediction(folder, entry.name).complete(checkpoint.read_header(path).model):
        yield from predict(Predictor.load(path), entry, PredictSettings(), folder)


def _check_learnt(folder: Path, header: Header) -> None:
    """JobError when a run has learnt features alone."""
    if header.features_only:
        raise JobError(
            f"The run '{folder.name}' was trained without labels and predicts nothing: annotate some patches, and "
            "train a method from it."
        )


def _check_named(project: Project, folder: Path, header: Header) -> None:
    """JobError when a run tells clusters apart that have no names: before a long prediction, not after it."""
    if header.classes != project.classes and not project.names(folder.name):
        raise _unnamed(folder)


def _unnamed(folder: Path) -> JobError:
    return JobError(
        f"The run '{folder.name}' has found clusters that have no names yet: name some in Data, or with name-clusters, "
        "first."
    )


def _named(project: Project, folder: Path, volume: str) -> Array:
    """What a run that has predicted a volume says of the project's classes; JobError when it tells clusters apart."""
    probabilities = project.probabilities(folder.name, volume)
    if probabilities is None:
        raise _unnamed(folder)
    return probabilities


def _score(job: ScoreJob) -> Iterator[Event]:
    project = Project.open(job.project)
    folder, volume = project.run(job.run), _asked(project, job.volume)
    labels = open_labels(Path(job.against)).array
    check_labels(volume.name, labels, volume.shape, len(project.classes))
    truth = replace(volume, labels=labels, labels_zero="background", annotations=None)
    box = Box.parse(job.box, volume.shape)
    header = checkpoint.read_header(_model(project, job))
    _check_learnt(folder, header)
    _check_named(project, folder, header)
    yield Started("score", folder.name, "cpu", 0)
    yield from predicted(project, folder.name, volume.name, job.checkpoint)
    scores = _scores(project, folder, truth, box)
    scores.setdefault("classes", {project.classes[1]: {k: v for k, v in scores.items() if k != "voxels"}})
    if job.objects:
        counted = yield from score_objects(
            _named(project, folder, volume.name),
            labels,
            project.classes,
            box=box,
            minimum_size=job.minimum_size,
            volume=volume.name,
            depth=volume.depth,
        )
        scores["classes"] = {name: {**row, "objects": counted[name]} for name, row in scores["classes"].items()}
    result = {"run": folder.name, "volume": volume.name, "box": str(box), **scores, "source_only": None, "helped": None}
    text = f"'{volume.name}' (run {folder.name}) has IoU {scores['iou']:.3f}."
    runs = verdict.pair(project, folder.name) if project.clusters(folder.name, volume.name) is None else None
    if runs is not None and runs[0] == folder.name:
        plain = runs[1]
        yield from predicted(project, plain, volume.name)
        other = _scores(project, project.run(plain), truth, box)["iou"]
        found = verdict.by_iou(scores["iou"], other, plain)
        compared = {"run": plain, "iou": other, "difference": scores["iou"] - other}
        result |= {"source_only": compared, "helped": found.helped}
        text = f"{text} {found.text}"
    yield Finished("done", text, result)


def _scores(project: Project, folder: Path, truth: Volume, box: Box) -> dict[str, Any]:
    probabilities = _named(project, folder, truth.name)
    return score_volume(probabilities, truth.class_ids, project.classes, box)


def _export(job: ExportJob) -> Iterator[Event]:
    project = Project.open(job.project)
    folder, volume = project.run(job.run), _asked(project, job.volume)
    claim(job.to, SUFFIXES[job.what], job.overwrite)  # before a long prediction, not after it
    header = checkpoint.read_header(_model(project, job))
    _check_learnt(folder, header)
    if job.what in ("objects", "table"):
        _check_named(project, folder, header)
    yield Started("export", folder.name, "cpu", 0)
    if job.what == "model":
        yield from _export_model(job, folder, volume)
    else:
        yield from predicted(project, folder.name, volume.name, job.checkpoint)
        yield from _export_prediction(job, project, folder, volume)
    text = f"Exported {job.what} of '{volume.name}' (run {folder.name}) to {job.to}."
    yield Finished("done", text, {"path": job.to})


def _export_prediction(job: ExportJob, project: Project, folder: Path, volume: Volume) -> Iterator[Event]:
    """Of clusters without names, a mask holds their numbers."""
    clusters = project.clusters(folder.name, volume.name)
    as_they_are = clusters is not None and not project.names(folder.name) and job.what in ("mask", "probabilities")
    probabilities = clusters if as_they_are and clusters is not None else _named(project, folder, volume.name)
    data = (probabilities, job.to, volume.spacing, volume.unit)
    kept: dict[str, Any] = {"overwrite": job.overwrite, "volume": volume.name, "depth": volume.depth}
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
        spacing=(volume.spacing[0], header.pixel_size, header.pixel_size),
        unit=header.unit,
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
