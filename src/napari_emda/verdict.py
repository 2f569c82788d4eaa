"""Did adapting help? One sentence against the same training without adaptation, with or without labels."""

from __future__ import annotations

from dataclasses import dataclass

from napari_emda import checkpoint
from napari_emda.checkpoint import Header
from napari_emda.errors import EmdaError
from napari_emda.jobs import TrainJob, read_job
from napari_emda.project import Project

BASELINE = "source_only"
CLEAR_SCORE = 0.04
"""Label-free scores that differ by less say nothing: that much, they were wrong on VNC -> Lucchi."""
CLEAR_IOU = 0.01


@dataclass(frozen=True)
class Verdict:
    """Whether adapting helped: yes, no, or None when that is not clear or not known; and the sentence that says so."""

    helped: bool | None
    text: str


def counterpart(project: Project, run: str) -> str | None:
    """The newest run to compare a run with; None when there is none.

    For a run that adapts it is one without adaptation, and the other way round; with the same profile, steps and parts
    of the volumes, and neither a continuation of a third.
    """
    job = _training(project, run)
    if job is None or job.start_from is not None:
        return None
    for name in reversed(project.runs()):
        other = _training(project, name)
        if other is not None and name != run and other.start_from is None and _comparable(job, other):
            return name
    return None


def without_adaptation(project: Project, run: str) -> bool:
    """Whether a run looked at the source alone."""
    job = _training(project, run)
    return job is not None and _is_baseline(job)


def _training(project: Project, run: str) -> TrainJob | None:
    try:
        job = read_job(project.run(run) / "job.json")
    except EmdaError:
        return None
    return job if isinstance(job, TrainJob) else None


def _is_baseline(job: TrainJob) -> bool:
    return job.method == BASELINE and job.settings.target_statistics != "on"


def _comparable(job: TrainJob, other: TrainJob) -> bool:
    same = ("profile", "steps", "source_box", "target_box")
    alike = all(getattr(job.settings, key) == getattr(other.settings, key) for key in same)
    return alike and _is_baseline(job) != _is_baseline(other)


def by_score(project: Project, run: str) -> Verdict:
    """From what the target's prediction looks like; nobody's labels are needed.

    ``run`` is one that adapts, or the one without, which is then compared with the newest that adapts.
    """
    other = counterpart(project, run)
    job = _training(project, run)
    if job is None or job.start_from is not None or (other is None and _is_baseline(job)):
        return Verdict(None, "")
    if other is None:
        return Verdict(
            None,
            f"Whether adapting helped is not known: train {BASELINE} with the same profile and steps to compare with.",
        )
    adapted, plain = (other, run) if _is_baseline(job) else (run, other)
    scores = [_score(checkpoint.read_header(checkpoint.find(project.run(name)))) for name in (adapted, plain)]
    if scores[0] is None or scores[1] is None:
        return Verdict(None, f"Run {plain} cannot be compared with: it never looked at the target.")
    return _by_score(adapted, plain, scores[0], scores[1])


def _score(header: Header) -> float | None:
    return header.scores.get("score")


def _by_score(adapted: str, plain: str, score: float, other: float) -> Verdict:
    numbers = f"label-free score {score:.2f} with (run {adapted}), {other:.2f} without (run {plain}); lower is better"
    if abs(score - other) < CLEAR_SCORE:
        return Verdict(None, f"Whether adapting helped is not clear: {numbers}.")
    if score < other:
        return Verdict(True, f"Adapting seems to have helped: {numbers}.")
    return Verdict(
        False,
        f"Warning: adapting seems to have made things worse: {numbers}. Use run {plain}, or try another method.",
    )


def by_iou(iou: float, other: float, plain: str) -> Verdict:
    """From agreement with true labels.

    Args:
        iou: of the run that adapts.
        other: of the run without adaptation.
        plain: its name.
    """
    numbers = f"IoU {iou:.3f} with, {other:.3f} without (run {plain}), {iou - other:+.3f}"
    if abs(iou - other) < CLEAR_IOU:
        return Verdict(None, f"Adapting made no difference: {numbers}.")
    if iou > other:
        return Verdict(True, f"Adapting helped: {numbers}.")
    return Verdict(False, f"Warning: adapting made things worse: {numbers}.")
