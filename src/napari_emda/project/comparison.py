"""Whether adapting helped: a run against the same training without adaptation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from napari_emda.project.job_files import TrainJob
from napari_emda.project.project import Project
from napari_emda.project.run_folder import RunFolder

BASELINE = "source_only"
# Label-free scores that differ by less say nothing: the score was wrong by as much on VNC ->
# Lucchi. With this limit, 81 of 96 comparisons were right, 5 not clear and 10 wrong
# (docs/stopping.md).
CLEAR_SCORE = 0.04
# Smaller differences are those between two seeds: under full supervision, the standard deviation
# over seeds is 0.011 and 0.015 (docs/benchmark-active-learning.md).
CLEAR_IOU = 0.01


@dataclass(frozen=True)
class Comparison:
    """The result of a comparison.

    Attributes:
        helped: whether adapting helped; None when that is not clear or not known.
        text: the same in one sentence; empty when there is nothing to say.
        details: the numbers behind it, in one sentence; empty when there are none.
    """

    helped: bool | None
    text: str
    details: str = ""


# -- what to compare with --------------------------------------------------------------------------


def counterpart(project: Project, run: str) -> str | None:
    """The newest run to compare a run with; None when there is none.

    A run that adapts is compared with one without adaptation, and the other way round. Profile,
    network, steps and boxes must be the same. Runs that start from another run are not compared:
    part of their training was another one.
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
    """Whether a run was trained on the source alone."""
    job = _training(project, run)
    return job is not None and _is_baseline(job)


def missing(project: Project, run: str) -> TrainJob | None:
    """The training without adaptation that a run needs for a comparison; None when none is."""
    job = _training(project, run)
    if (
        job is None
        or job.start_from is not None
        or _is_baseline(job)
        or counterpart(project, run) is not None
    ):
        return None
    # With "on", `source_only` would normalise with the target's statistics, which is adaptation.
    # And alone, the source has no spectrum in common with anything.
    settings = job.settings.model_copy(update={"target_statistics": "auto", "spectrum": "own"})
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
    # The seed is left out: with another one, a run is as good a comparison.
    keys = ("profile", "network", "steps", "source_box", "target_box")
    same_settings = all(getattr(job.settings, key) == getattr(other.settings, key) for key in keys)
    return same_settings and _is_baseline(job) != _is_baseline(other)


# -- the comparison --------------------------------------------------------------------------------


def by_score(project: Project, run: str, score_of: Callable[[str], float | None]) -> Comparison:
    """Compare by the label-free score of the target's prediction.

    Args:
        project: where the runs are.
        run: one that adapts, or one without adaptation, which is then compared with the newest
            that adapts.
        score_of: label-free score of a run's model by the run's name, lower being better; None
            where there is none.
    """
    if missing(project, run) is not None:
        details = (
            f"To see whether adapting helped, train {BASELINE}, which does not adapt, with the "
            "same profile and steps."
        )
        return Comparison(None, "", details)
    runs = pair(project, run)
    if runs is None:
        return Comparison(None, "")
    adapted, plain = runs
    adapted_score = score_of(adapted)
    plain_score = score_of(plain)
    if adapted_score is None or plain_score is None:
        details = (
            f"Whether adapting helped is not known, because run {adapted} or run {plain} was "
            "trained without validations on the target."
        )
        return Comparison(None, "", details)
    details = (
        f"Estimated error in the target, without its labels: {adapted_score:.2f} with adaptation "
        f"(run {adapted}), {plain_score:.2f} without (run {plain}); lower is better."
    )
    if abs(adapted_score - plain_score) < CLEAR_SCORE:
        text = f"Whether adapting helped is not clear: compare runs {adapted} and {plain} by eye."
        return Comparison(None, text, details)
    if adapted_score < plain_score:
        text = f"Adapting seems to have helped: go on with run {adapted}."
        return Comparison(True, text, details)
    text = (
        f"Warning: adapting seems to have made things worse: use run {plain}, or try another "
        "method."
    )
    return Comparison(False, text, details)


def by_iou(adapted_iou: float, plain_iou: float, plain: str) -> Comparison:
    """Compare by agreement with true labels.

    Args:
        adapted_iou: of the run that adapts.
        plain_iou: of the run without adaptation.
        plain: name of the latter.
    """
    difference = adapted_iou - plain_iou
    numbers = (
        f"IoU {adapted_iou:.3f} with adaptation, {plain_iou:.3f} without (run {plain}), a "
        f"difference of {difference:+.3f}"
    )
    if abs(difference) < CLEAR_IOU:
        return Comparison(None, f"Adapting made no difference: {numbers}.")
    if difference > 0:
        return Comparison(True, f"Adapting helped: {numbers}.")
    return Comparison(
        False, f"Warning: adapting made things worse: {numbers}. Use run {plain} instead."
    )
