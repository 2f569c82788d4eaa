"""How much of each class the answered check points say that the targets contain."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from napari_emda.active_learning.check_points import CheckedPrediction
from napari_emda.active_learning.point_report import FEWEST, Report, report
from napari_emda.errors import EmdaError, JobError
from napari_emda.project.job_files import TrainJob
from napari_emda.project.project import Project


def with_measured_shares(project: Project, job: TrainJob) -> tuple[TrainJob, list[str]]:
    """Write the measured shares into the job of a new training, if it asks for them.

    A run keeps the shares that it began with: further answers change the next training.

    Returns:
        The job, and a sentence that says the shares, or that given ones are not used; none if
        nothing is measured.

    Raises:
        JobError: no check points measure them.
    """
    asked = job.method_settings
    if asked.get("measured_shares") and asked.get("amounts") != "measured":
        return job, [
            f"The measured shares {asked['measured_shares']} are not used: choose amounts=measured "
            "for that."
        ]
    if asked.get("amounts") != "measured" or asked.get("measured_shares"):
        return job, []
    shares, intervals = _measured(project)
    text = ",".join(f"{share:.4g}" for share in shares)
    # Four digits, so that it says what the training uses.
    classes = zip(project.classes[1:], text.split(","), intervals, strict=True)
    said = "; ".join(
        f"{name} {100 * float(share):.3g} %{interval}" for name, share, interval in classes
    )
    job = job.model_copy(update={"method_settings": {**asked, "measured_shares": text}})
    return job, [f"Expected in the target, as the check points have measured: {said}."]


def _measured(project: Project) -> tuple[NDArray[np.float64], list[str]]:
    """Share of each class but the background in all targets that have enough check points.

    Behind it, the 95 % intervals in percent as text; empty ones for several targets.
    """
    shares = []
    intervals = []
    voxels = []
    for target in project.volumes.targets():
        found = _report_of(project, target.name)
        if found is not None:
            shares.append([of_class.share[0] for of_class in found.classes.values()])
            # Few points measure little, which nobody sees from the share alone.
            intervals = [
                f" (95 % interval: {100 * low:.1f} to {100 * high:.1f} %)"
                for _, low, high in (of_class.share for of_class in found.classes.values())
            ]
            voxels.append(math.prod(project.volumes.open(target.name).shape))
    if not shares:
        raise JobError(
            "amounts=measured needs check points that say how much of each class there is, and no "
            f"target has {FEWEST} answers: answer some with napari-emda check-points or under "
            "Annotate, give measured_shares=..., or choose amounts=source."
        )
    if len(shares) > 1:
        intervals = [""] * len(intervals)
    return np.average(shares, axis=0, weights=voxels), intervals


def _report_of(project: Project, volume: str) -> Report | None:
    """The report of the prediction of a volume for which most points are answered."""
    best = None
    drawn = project.check_points.read().draws.values()
    for run in dict.fromkeys(draw.run for draw in drawn if draw.volume == volume):
        try:
            found = report(project, CheckedPrediction.of(project, run, volume))
        except EmdaError:
            continue  # the run is gone, or has predicted something else since
        if found.classes and (best is None or found.answered > best.answered):
            best = found
    return best
