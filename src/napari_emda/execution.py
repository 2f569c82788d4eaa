"""Carries a job out: the same in a thread, a child process or on a cluster node."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from napari_emda import checkpoint
from napari_emda.checkpoint import Header
from napari_emda.compute import Compute
from napari_emda.data.checks import check_labels
from napari_emda.data.files import open_labels
from napari_emda.data.sampling import PatchSampler
from napari_emda.data.volume import Box, Volume
from napari_emda.errors import DataError, JobError
from napari_emda.events import Event, Finished, Preview, Started, Stepped, Suggested
from napari_emda.export import export_mask, export_model, export_objects, export_probabilities, export_table
from napari_emda.jobs import AnyJob, ExportJob, PredictJob, ScoreJob, SuggestJob, TrainJob, read_job, write_job
from napari_emda.methods.base import Context, Method, methods
from napari_emda.metrics import score_volume
from napari_emda.model_package import ModelCard
from napari_emda.nn.unet import WithSoftmax
from napari_emda.predict import Prediction, Predictor, predict, predict_box
from napari_emda.project import Project
from napari_emda.query import Candidates, strategies, suggest
from napari_emda.saving import VOLUME_SUFFIXES, claim
from napari_emda.settings import PredictSettings
from napari_emda.train import CHECKPOINT, Training, fit, seed_of

PREVIEW_SECONDS = 2.0
SLOWEST_PREVIEW = 4.0
"""Seconds between two previews, however much each costs."""
SUFFIXES = {
    **dict.fromkeys(("mask", "objects", "probabilities"), VOLUME_SUFFIXES),
    "table": (".csv",),
    "model": (".zip",),
}
_PREVIEW_SIDE = 1536
_NETWORK = {"base", "levels", "dropout", "attention"}


class View:
    """What the user is looking at; set from another thread, read between two events of training."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wish: tuple[str, Box] | None = None
        self.changed = False

    def set(self, volume: str, box: Box) -> None:
        """Ask for previews of this part of a section."""
        with self._lock:
            self.changed = self.changed or self._wish != (volume, box)
            self._wish = volume, box

    def get(self) -> tuple[str, Box] | None:
        """The part asked for, if any."""
        with self._lock:
            self.changed = False
            return self._wish


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
        yield from _suggest(job)
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
    training, volumes = _set_up(project, job, folder)
    done = 0 if folder is None else checkpoint.read_header(folder / CHECKPOINT).step
    if folder is None:
        training.folder = folder = _writable(project).new_run(job.method)
        write_job(job, folder / "job.json")
    yield Started("train", folder.name, str(training.compute), job.settings.steps)
    previews = _Previews(training, volumes, view, folder)
    last = Stepped(done, job.settings.steps, {}, 0.0)
    with (folder / "log.jsonl").open("a", buffering=1) as log:
        for event in fit(training):
            log.write(event.to_json() + "\n")
            last = event if isinstance(event, Stepped) else last
            yield event
            yield from previews.due(last.step)
    result = {
        "run": folder.name,
        "step": last.step,
        "selected_step": last.step,
        "losses": last.losses,
        "seconds": round(time.perf_counter() - began, 2),
        "device": str(training.compute),
    }
    yield Finished("done", f"Run {folder.name} is trained; the model of its last step ({last.step}) was kept.", result)


def _writable(project: Project) -> Project:
    if not os.access(project.folder, os.W_OK):
        raise JobError(f"The project '{project.folder}' is read-only: copy it to a folder that can be written.")
    return project


def _set_up(project: Project, job: TrainJob, folder: Path | None) -> tuple[Training, dict[str, Volume]]:
    """Everything that can be found wrong is found here, before a run's folder is made."""
    cls = methods[job.method]
    method_settings = cls.Settings.parse(job.method_settings)
    volumes = _volumes(project, job, cls)
    settings = job.settings
    sampler = PatchSampler(
        volumes,
        settings.patch,
        settings.batch,
        pixel_size=settings.pixel_size,
        seed=settings.seed,
        boxes={"source": settings.source_box, "target": settings.target_box},
    )
    _check_labels(sampler, cls)
    start = None if job.start_from is None else project.run(job.start_from) / CHECKPOINT
    context = Context(
        {d: sampler.quantiles(d) for d in sampler.domains},
        sampler.labelled("target"),
        sampler.prior("source", len(project.classes)),
        start is not None,
    )
    header = Header(
        method=job.method,
        method_settings=method_settings.model_dump(),
        settings=settings,
        classes=project.classes,
        network={"classes": len(project.classes), **settings.model_dump(include=_NETWORK), **cls.architecture},
        pixel_size=sampler.pixel_size,
        statistics=sampler.statistics,
        prediction_domain="target" if "target" in cls.domains else "source",
    )
    torch.manual_seed(seed_of(settings.seed, 0))
    method = header.build(context)
    if start is not None:
        checkpoint.start_from(start, method.network)
    compute = Compute.choose(settings.device, settings.precision)
    training = Training(method, sampler, header, folder or Path(), compute)
    return training, {volume.name: volume for volume in volumes}


def _volumes(project: Project, job: TrainJob, cls: type[Method]) -> list[Volume]:
    """The volumes a method looks at; a target never brings labels but those annotated in the project."""
    volumes = []
    for domain in ("source", "target"):
        found = project.volumes(domain)
        if domain in cls.domains and not found:
            raise JobError(f"{job.method} needs a {domain} volume: add one, or choose another method.")
        if domain in cls.domains or (domain == "target" and job.settings.target_statistics == "on"):
            volumes += found if domain == "source" else [volume.without_labels() for volume in found]
    return volumes


def _check_labels(sampler: PatchSampler, cls: type[Method]) -> None:
    if not sampler.foreground("source"):
        raise DataError(
            "The source's labels hold no foreground where training may look: add labels or enlarge the box."
        )
    if cls.needs_annotations and not sampler.labelled("target"):
        raise JobError(
            f"{cls.name} learns from annotated patches of the target and there are none: annotate some first, or "
            "choose a method that needs none, such as histogram."
        )


class _Previews:
    """Predicts what the user looks at, now and then, between two steps of training."""

    def __init__(self, training: Training, volumes: dict[str, Volume], view: View, folder: Path) -> None:
        self._training, self._volumes, self._view, self._folder = training, volumes, view, folder
        self._last = 0.0
        self._cost = 0.0

    def due(self, step: int) -> Iterator[Event]:
        """A Preview, when the view changed or some time went by; as a rule a fifth of the time goes into them."""
        wait = max(PREVIEW_SECONDS, min(4 * self._cost, SLOWEST_PREVIEW))
        now = time.perf_counter()
        if now - self._last < (min(4 * self._cost, SLOWEST_PREVIEW) if self._view.changed else wait):
            return
        wish = self._view.get()
        if wish is None or wish[0] not in self._volumes:
            return
        volume, box = self._volumes[wish[0]], _visible(wish[1], self._volumes[wish[0]].shape)
        training = self._training
        if training.measures_target() and not training.measured:
            training.adapt_statistics()
        predictor = Predictor(training.method.predictor, training.header, training.compute)
        path = self._folder / "preview.npy"
        beside = path.with_name(".preview.npy")
        np.save(beside, predict_box(predictor, volume, box), allow_pickle=False)
        beside.replace(path)
        self._last = time.perf_counter()
        self._cost = self._last - now
        yield Preview(step, volume.name, box.bounds, str(path))


def _visible(box: Box, shape: tuple[int, int, int]) -> Box:
    """One section of the box, inside the volume, at most so large around its middle."""
    box = box.clip(shape)
    z = min(box.start[0], shape[0] - 1)
    low, high = [], []
    for a, b, n in zip(box.start[1:], box.stop[1:], shape[1:], strict=True):
        a, b = (a, b) if b > a else (0, n)
        middle, half = (a + b) // 2, min(b - a, _PREVIEW_SIDE) // 2
        low.append(max(a, middle - half))
        high.append(max(low[-1] + 1, min(b, middle + half)))
    return Box((z, low[0], low[1]), (z + 1, high[0], high[1]))


# -- using a model -----------------------------------------------------------------------------------------------


def _predictor(folder: Path, device: str, precision: str = "auto") -> Predictor:
    return Predictor.load(folder / CHECKPOINT, device, precision)


def _asked(project: Project, volume: str | None) -> Volume:
    return project.volume(volume or project.target().name)


def _predict(job: PredictJob) -> Iterator[Event]:
    project = Project.open(job.project)
    folder, volume = project.run(job.run), _asked(project, job.volume)
    predictor = _predictor(folder, job.settings.device, job.settings.precision)
    if job.out is not None:
        claim(job.out, VOLUME_SUFFIXES, overwrite=False)
    _writable(project)
    yield Started("predict", folder.name, str(predictor.compute), 0)
    yield from predict(predictor, volume, job.settings, folder)
    path = str(folder / "probabilities.zarr" / volume.name)
    if job.out is not None:
        probabilities = Prediction(folder, volume.name).probabilities
        yield from export_probabilities(probabilities, job.out, volume.spacing, volume.unit, volume=volume.name)
        path = job.out
    result = {"run": folder.name, "volume": volume.name, "probabilities": path}
    yield Finished("done", f"'{volume.name}' is predicted with run {folder.name}.", result)


def _suggest(job: SuggestJob) -> Iterator[Event]:
    project = Project.open(job.project)
    cls = strategies[job.settings.strategy]
    strategy = cls(cls.Settings.parse(job.strategy_settings))
    volume = _asked(project, job.volume)
    needed = cls.needs_prediction
    folder = project.run(job.run) if needed or job.run else project.folder
    predictor = _predictor(folder, job.settings.device) if needed else None
    Candidates.of(volume.shape, job.settings.patch)  # mistakes are told before anything begins
    Box.parse(job.settings.box, volume.shape)
    yield Started("suggest", folder.name if needed else "", str(predictor.compute) if predictor else "cpu", 0)
    excluded = [
        r.voxels for r in project.regions() if r.volume == volume.name and r.state not in ("suggested", "replaced")
    ]
    regions: tuple[dict[str, object], ...] = ()
    for event in suggest(predictor, volume, strategy, job.settings, folder, excluded):
        regions = event.regions if isinstance(event, Suggested) else regions
        yield event
    result = {"run": folder.name if needed else None, "strategy": cls.name, "regions": list(regions)}
    yield Finished("done", f"{len(regions)} patches are suggested by {cls.name}.", result)


def predicted(project: Project, run: str | None, volume: str | None, device: str = "auto") -> Generator[Event]:
    """Predict a volume with a run's model unless that was done already."""
    folder, entry = project.run(run), _asked(project, volume)
    if not Prediction(folder, entry.name).complete(checkpoint.read_header(folder / CHECKPOINT).step):
        yield from predict(_predictor(folder, device), entry, PredictSettings(), folder)


def _score(job: ScoreJob) -> Iterator[Event]:
    project = Project.open(job.project)
    folder, volume = project.run(job.run), _asked(project, job.volume)
    labels = open_labels(Path(job.against)).array
    check_labels(volume.name, labels, volume.shape, len(project.classes))
    truth = replace(volume, labels=labels, labels_zero="background", annotations=None)
    box = Box.parse(job.box, volume.shape)
    checkpoint.read_header(folder / CHECKPOINT)
    yield Started("score", folder.name, "cpu", 0)
    yield from predicted(project, folder.name, volume.name)
    probabilities = Prediction(folder, volume.name).probabilities
    scores = score_volume(probabilities, truth.class_ids, project.classes, box)
    scores.setdefault("classes", {project.classes[1]: {k: v for k, v in scores.items() if k != "voxels"}})
    result = {"run": folder.name, "volume": volume.name, "box": str(box), **scores}
    yield Finished("done", f"'{volume.name}' (run {folder.name}) has IoU {scores['iou']:.3f}.", result)


def _export(job: ExportJob) -> Iterator[Event]:
    project = Project.open(job.project)
    folder, volume = project.run(job.run), _asked(project, job.volume)
    claim(job.to, SUFFIXES[job.what], job.overwrite)  # before a long prediction, not after it
    checkpoint.read_header(folder / CHECKPOINT)
    yield Started("export", folder.name, "cpu", 0)
    if job.what == "model":
        yield from _export_model(job, folder, volume)
    else:
        yield from predicted(project, folder.name, volume.name)
        yield from _export_prediction(job, folder, volume)
    text = f"Exported {job.what} of '{volume.name}' (run {folder.name}) to {job.to}."
    yield Finished("done", text, {"path": job.to})


def _export_prediction(job: ExportJob, folder: Path, volume: Volume) -> Iterator[Event]:
    data = (Prediction(folder, volume.name).probabilities, job.to, volume.spacing, volume.unit)
    kept: dict[str, Any] = {"overwrite": job.overwrite, "volume": volume.name}
    if job.what == "probabilities":
        yield from export_probabilities(*data, **kept)
        return
    write = {"mask": export_mask, "objects": export_objects, "table": export_table}[job.what]
    yield from write(*data, threshold=job.threshold, minimum_size=job.minimum_size, **kept)


def _export_model(job: ExportJob, folder: Path, volume: Volume) -> Iterator[Event]:
    header, method = checkpoint.load_method(folder / CHECKPOINT)
    predictor = Predictor(method.predictor, header, Compute.choose("cpu", "32"))
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
        overwrite=job.overwrite,
    )
