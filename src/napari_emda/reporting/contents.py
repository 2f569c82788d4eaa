"""What a report says, read from a project; whatever cannot be read is said in its place."""

from __future__ import annotations

import json
import math
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import PurePosixPath
from typing import Any, TypeVar

import numpy as np

from napari_emda.active_learning.check_points import CheckedPrediction
from napari_emda.active_learning.point_report import report as report_points
from napari_emda.errors import EmdaError, explained, listed
from napari_emda.inference import checkpoint
from napari_emda.io.read import open_image
from napari_emda.jobs.train import score_of
from napari_emda.project import comparison, learning_curve
from napari_emda.project.file import VolumeEntry
from napari_emda.project.job_files import TrainJob
from napari_emda.project.learning_curve import Estimate, Round
from napari_emda.project.project import Project
from napari_emda.project.run_folder import RunFolder
from napari_emda.reporting import pictures
from napari_emda.reporting.citations import cited
from napari_emda.reporting.paragraph import methods_paragraph
from napari_emda.reporting.plots import Curve, Point

T = TypeVar("T")

# Libraries on which numbers depend.
_LIBRARIES = ("napari-emda", "torch", "numpy", "scipy", "scikit-image", "zarr")
# What unreadable numbers in a project's files raise where they are computed with.
_NONSENSE = (ValueError, TypeError, LookupError, ArithmeticError)


@dataclass(frozen=True)
class VolumeRow:
    """A volume: name, whether it is the source or a target, its file, size, and voxels."""

    name: str
    domain: str
    file: str
    labels: str
    size: str
    dtype: str
    spacing: str


@dataclass(frozen=True)
class RunPart:
    """A run: how it was trained, and its curves.

    Attributes:
        name: of the run.
        summary: of the training, in words.
        facts: name and value of what is known of it.
        settings: name and value of every setting.
        losses: over steps.
        quality: the label-free score of the validations; empty without.
        helped: whether adapting helped, in sentences; empty if nothing was compared.
    """

    name: str
    summary: str
    facts: tuple[tuple[str, str], ...]
    settings: tuple[tuple[str, str], ...]
    losses: tuple[Curve, ...]
    quality: tuple[Curve, ...]
    helped: tuple[str, ...]


@dataclass
class Contents:
    """A report.

    Attributes:
        title: name of the project.
        date: on which the report was written.
        classes: of the project, background first.
        volumes: of the project.
        methods: a paragraph on what was done.
        runs: of the project, the oldest first.
        rounds: of annotation, in which a model was compared.
        curve: agreement by round, with intervals.
        summary: of the annotation, in sentences.
        checked: what check points say, by volume.
        pictures: before and after, by volume.
        citations: BibTeX entries.
        versions: of libraries, by name.
        problems: what could not be read, in sentences.
        reasons: why, with paths of this computer, for who writes the report.
    """

    title: str
    date: str
    classes: tuple[str, ...]
    volumes: list[VolumeRow] = field(default_factory=list)
    methods: str = ""
    runs: list[RunPart] = field(default_factory=list)
    rounds: list[Round] = field(default_factory=list)
    curve: tuple[Curve, ...] = ()
    summary: list[str] = field(default_factory=list)
    checked: list[tuple[str, list[str]]] = field(default_factory=list)
    pictures: list[pictures.Comparison] = field(default_factory=list)
    citations: list[str] = field(default_factory=list)
    versions: list[tuple[str, str]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)


def contents_of(project: Project) -> Contents:
    """Read all that a report says of a project."""
    found = Contents(
        title=project.folder.name,
        date=time.strftime("%Y-%m-%d", time.gmtime()),
        classes=project.classes,
        versions=_versions(),
    )
    regions = project.regions.all()
    found.volumes = [_volume(project, entry, found) for entry in project.volumes.entries]
    jobs = {}
    for name in project.runs.names():
        job = RunFolder.of(project.folder, name).training()
        if job is None:
            found.problems.append(f"This report has no run '{name}', whose job cannot be read.")
        else:
            jobs[name] = job
            found.runs.append(_run(project, name, job, found))
    found.rounds = _or(found, "agreement by round", partial(learning_curve.rounds, regions), [])
    found.curve = _agreement(found.rounds)
    found.summary = [learning_curve.summary(regions), learning_curve.advice(found.rounds)]
    found.summary = [sentence for sentence in found.summary if sentence]
    for entry in project.volumes.targets():
        points = _or(
            found, f"check points of '{entry.name}'", partial(_points, project, entry), None
        )
        if points:
            found.checked.append((entry.name, points))
        compare = partial(pictures.compare, project, entry.name, regions)
        compared = _or(found, f"pictures of '{entry.name}'", compare, None)
        if compared is not None:
            found.pictures.append(compared)
    used = [region for region in regions if region.state != "replaced"]
    found.citations = cited(jobs.values(), used, scored=bool(found.rounds))
    found.methods = methods_paragraph(project, jobs, used)
    return found


def _or(found: Contents, what: str, read: Callable[[], T], otherwise: T) -> T:
    """What is read, or else a sentence in the report that it is not there."""
    try:
        return read()
    except (EmdaError, OSError) as error:
        reason = str(explained(error))
    except _NONSENSE:
        reason = "numbers in the project's files are damaged."
    found.problems.append(f"This report has no {what}, which cannot be read.")
    found.reasons.append(f"The report has no {what}: {reason}")
    return otherwise


# -- volumes ---------------------------------------------------------------------------------------


def _volume(project: Project, entry: VolumeEntry, found: Contents) -> VolumeRow:
    what = f"size of '{entry.name}'"
    image = _or(found, what, lambda: open_image(project.volumes.path(entry.image)).array, None)
    spacing = " × ".join(f"{side:g}" for side in entry.spacing)
    independent = ", independent sections" if entry.sections_are_independent else ""
    return VolumeRow(
        name=entry.name,
        domain=entry.domain,
        file=_name(entry.image),
        labels="" if entry.labels is None else _name(entry.labels),
        size="" if image is None else " × ".join(map(str, image.shape)),
        dtype="" if image is None else str(np.dtype(image.dtype)),
        spacing=f"{spacing} {entry.unit}{independent}",
    )


def _name(path: str) -> str:
    """The name of a file: in which folder it lies on somebody's computer is nobody's business."""
    return PurePosixPath(path.replace("\\", "/")).name


# -- runs ------------------------------------------------------------------------------------------


def _run(project: Project, name: str, job: TrainJob, found: Contents) -> RunPart:
    run = RunFolder.of(project.folder, name)
    log = run.log()
    what = f"comparison of '{name}'"
    settings = {
        **job.settings.model_dump(mode="json"),
        **{f"network: {key}": value for key, value in job.network_settings.items()},
        **{f"{job.method}: {key}": value for key, value in job.method_settings.items()},
    }
    return RunPart(
        name=name,
        summary=", ".join(filter(None, (job.in_words(), run.interruption))),
        facts=tuple(_facts(run, log).items()),
        settings=tuple((key, _written(value)) for key, value in settings.items()),
        losses=_losses(log),
        quality=_quality(log),
        helped=_or(found, what, lambda: _helped(project, name), ()),
    )


def _written(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _facts(run: RunFolder, log: Sequence[dict[str, Any]]) -> dict[str, str]:
    """What is known of the end of a training, and on what it was trained."""
    results = [entry.get("result") for entry in log if entry.get("event") == "finished"]
    result = next((r for r in reversed(results) if isinstance(r, dict)), {})
    facts = {}
    if (number := _number(result.get("step"))) is not None:
        facts["steps done"] = f"{number:g}"
    if kept := _kept(run):
        facts["model kept"] = kept
    if (seconds := _number(result.get("seconds"))) is not None:
        facts["time"] = f"{seconds / 60:.1f} minutes"
    if isinstance(result.get("device"), str):
        facts["device"] = result["device"]
    return facts


def _kept(run: RunFolder) -> str:
    """Of which steps the model is that a run uses; empty if that cannot be read."""
    try:
        header = checkpoint.read_header(checkpoint.find(run))
    except (EmdaError, OSError):
        return ""
    steps = header.selected or (header.step,)
    if len(steps) == 1:
        return f"that of step {steps[0]}"
    return f"the average of those of steps {listed([str(step) for step in steps])}"


def _losses(log: Sequence[dict[str, Any]]) -> tuple[Curve, ...]:
    points: dict[str, list[Point]] = {}
    for entry in log:
        losses = entry.get("losses")
        step = _number(entry.get("step"))
        if entry.get("event") != "stepped" or step is None or not isinstance(losses, dict):
            continue
        for name, value in losses.items():
            if (loss := _number(value)) is not None:
                points.setdefault(str(name), []).append(Point(step, loss))
    return tuple(Curve(name, tuple(series)) for name, series in points.items())


def _quality(log: Sequence[dict[str, Any]]) -> tuple[Curve, ...]:
    points = []
    for entry in log:
        scores = entry.get("scores")
        step = _number(entry.get("step"))
        if entry.get("event") == "validated" and step is not None and isinstance(scores, dict):
            score = _number(scores.get("score"))
            if score is not None:
                points.append(Point(step, score))
    return (Curve("estimated error", tuple(points), markers=True),) if points else ()


def _number(value: object) -> float | None:
    """A number of a log; None for whatever is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # Numbers of thousands of digits are none of ours.
    return float(value) if abs(value) < 1e300 and math.isfinite(value) else None


def _helped(project: Project, name: str) -> tuple[str, ...]:
    """Whether adapting helped a run, in sentences; none where nothing is compared."""
    if comparison.pair(project, name) is None:
        return ()
    outcome = comparison.by_score(project, name, partial(score_of, project))
    return tuple(sentence for sentence in (outcome.text, outcome.details) if sentence)


# -- annotation ------------------------------------------------------------------------------------


def _agreement(rounds: Sequence[Round]) -> tuple[Curve, ...]:
    suggested = [one for one in rounds if not one.audit]
    audits = [one for one in rounds if one.audit]
    series: dict[str, list[tuple[float, Estimate]]] = {
        "IoU, suggested patches": [(one.number, one.iou) for one in suggested],
        "Dice, suggested patches": [(one.number + 0.06, one.dice) for one in suggested],
        "IoU, audit": [(one.number + 0.12, one.iou) for one in audits],
    }
    return tuple(
        Curve(name, tuple(Point(x, e.value, e.low, e.high) for x, e in points), markers=True)
        for name, points in series.items()
        if points
    )


def _points(project: Project, entry: VolumeEntry) -> list[str] | None:
    """What check points say of the prediction that they were last drawn from; None without any."""
    draws = project.check_points.read().draws.values()
    runs = [drawn.run for drawn in draws if drawn.volume == entry.name]
    if not runs:
        return None
    checked = CheckedPrediction.of(project, runs[-1], entry.name)
    found = report_points(project, checked)
    counts = f"Run {runs[-1]}: {found.answered} of {found.drawn} points were answered."
    return [counts, *found.sentences()]


def _versions() -> list[tuple[str, str]]:
    found = [("Python", platform.python_version())]
    for name in _LIBRARIES:
        try:
            found.append((name, version(name)))
        except PackageNotFoundError:
            continue
    return found
