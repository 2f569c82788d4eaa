"""Did adapting help? One sentence against the same training without adaptation, with or without labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from napari_emda.project.job_files import TrainJob
from napari_emda.project.project import Project
from napari_emda.project.run_folder import RunFolder

BASELINE = "source_only"
CLEAR_SCORE = 0.04
"""Label-free scores that differ by less say nothing: by so much they were wrong on VNC -> Lucchi."""
CLEAR_IOU = 0.01


@dataclass(frozen=True)
class Comparison:
    """Whether adapting helped: yes, no, or None when that is not clear or not known; and the sentence that says so."""

    helped: bool | None
    text: str


# -- what to compare with ----------------------------------------------------------------------------------------


def counterpart(project: Project, run: str) -> str | None:
    """The newest run to compare a run with; None when there is none.

    For a run that adapts it is one without adaptation, and the other way round; with the same profile, steps and parts
    of the volumes, and neither a continuation of a third.
    """
    job = _training(project, run)
    if job is None or job.start_from is not None:
        return None
    for name in reversed(project.runs.names()):
        other = _training(project, name)
        if other is not None and other.start_from is None and _comparable(job, other):
            return name
    return None


def pair(project: Project, run: str) -> tuple[str, str] | None:
    """A run and its counterpart: the one that adapts, then the one without adaptation."""
    other = counterpart(project, run)
    if other is None:
        return None
    return (other, run) if without_adaptation(project, run) else (run, other)


def without_adaptation(project: Project, run: str) -> bool:
    """Whether a run looked at the source alone."""
    job = _training(project, run)
    return job is not None and _is_baseline(job)


def missing(project: Project, run: str) -> TrainJob | None:
    """The training without adaptation that would tell whether a run's adapting helped; None when nothing is missing."""
    job = _training(project, run)
    if (
        job is None
        or job.start_from is not None
        or _is_baseline(job)
        or counterpart(project, run) is not None
    ):
        return None
    settings = job.settings.model_copy(update={"target_statistics": "auto"})
    return TrainJob(
        project=str(project.folder),
        method=BASELINE,
        settings=settings,
        network_settings=job.network_settings,
    )


def _training(project: Project, run: str) -> TrainJob | None:
    return RunFolder.of(project.folder, run).training()


def _is_baseline(job: TrainJob) -> bool:
    return job.method == BASELINE and job.settings.target_statistics != "on"


def _comparable(job: TrainJob, other: TrainJob) -> bool:
    same = ("profile", "network", "steps", "source_box", "target_box")
    alike = all(getattr(job.settings, key) == getattr(other.settings, key) for key in same)
    return alike and _is_baseline(job) != _is_baseline(other)


# -- the verdict -------------------------------------------------------------------------------------------------


def by_score(project: Project, run: str, score_of: Callable[[str], float | None]) -> Comparison:
    """From what the target's prediction looks like, without anybody's labels.

    Args:
        project: where the runs are.
        run: one that adapts, or one without, which is then compared with the newest that adapts.
        score_of: the label-free score of a run's model by the run's name, lower being better; None where there is none.
    """
    if missing(project, run) is not None:
        text = f"Whether adapting helped is not known: train {BASELINE} with the same profile and steps to compare."
        return Comparison(None, text)
    runs = pair(project, run)
    if runs is None:
        return Comparison(None, "")
    score, other = map(score_of, runs)
    adapted, plain = runs
    if score is None or other is None:
        text = (
            f"Whether adapting helped is not known: of the runs {adapted} and {plain} one never "
            "looked at the target."
        )
        return Comparison(None, text)
    numbers = f"label-free score {score:.2f} with (run {adapted}), {other:.2f} without (run {plain}); lower is better"
    if abs(score - other) < CLEAR_SCORE:
        return Comparison(None, f"Whether adapting helped is not clear: {numbers}.")
    if score < other:
        return Comparison(True, f"Adapting seems to have helped: {numbers}.")
    remedy = f"Use run {plain}, or try another method."
    return Comparison(
        False, f"Warning: adapting seems to have made things worse: {numbers}. {remedy}"
    )


def by_iou(iou: float, other: float, plain: str) -> Comparison:
    """From agreement with true labels.

    Args:
        iou: of the run that adapts.
        other: of the run without adaptation.
        plain: its name.
    """
    numbers = f"IoU {iou:.3f} with, {other:.3f} without (run {plain}), {iou - other:+.3f}"
    if abs(iou - other) < CLEAR_IOU:
        return Comparison(None, f"Adapting made no difference: {numbers}.")
    if iou > other:
        return Comparison(True, f"Adapting helped: {numbers}.")
    return Comparison(False, f"Warning: adapting made things worse: {numbers}.")
