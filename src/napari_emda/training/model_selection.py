"""Which models of a training to keep, chosen without labels of the target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from napari_emda.errors import listed
from napari_emda.inference import checkpoint
from napari_emda.inference.model_header import ModelHeader
from napari_emda.io.atomic import make_folder
from napari_emda.methods.base import DataSummary, Method
from napari_emda.project.run_folder import RunFolder
from napari_emda.settings.training import LOSSES, TrainSettings
from napari_emda.training.state import TrainingState

# Label-free scores of one model (see `validation.Validator.scores`), or its losses (see
# `LossAccumulator`), by name.
Scores = Mapping[str, float]
# Scores or losses by step.
History = Mapping[int, Scores]

# Number of models that are averaged; docs/stopping.md compares the average with the best one.
AVERAGED = 3

# A training has collapsed if the foreground fraction of the target is outside these multiples of
# the source's. Narrower bounds would warn of targets that really hold more or less.
BOUNDS = (0.1, 10.0)

# Fraction of the steps before which a collapse does not count: early models often find nothing.
WARM_UP = 0.25


# -- choosing --------------------------------------------------------------------------------------


def ranked(history: History) -> list[int]:
    """Steps in order of their scores, the best first, of equal ones the latest.

    Steps without any object are left out. Those of the first two thirds come last: while the
    learning rate is large, a good score is often luck.
    """
    candidates = [step for step, scores in history.items() if scores["objects"] > 0]
    last_third = max(history, default=0) * 2 / 3
    return sorted(candidates, key=lambda step: (step < last_third, history[step]["score"], -step))


def in_the_running(history: History, count: int) -> set[int]:
    """Steps that are, or may become, one of the first ``count`` of `ranked` as training continues.

    The last third moves with the training. A step can move up when better ones before it leave that
    third, so only ``count`` better steps after it rule it out.
    """
    candidates = [step for step, scores in history.items() if scores["objects"] > 0]

    def better_later(step: int) -> int:
        return sum(
            later > step and history[later]["score"] <= history[step]["score"]
            for later in candidates
        )

    return {step for step in candidates if better_later(step) < count}


def least(losses: History, name: str, steps: int) -> tuple[int, ...]:
    """The step with the smallest loss in the second half of a training, of equal ones the latest.

    Args:
        losses: by step.
        name: of the loss.
        steps: of the whole training.

    Returns:
        One step, or none if there is no such loss.
    """
    # In the first half, weights of losses may rise: a sum of losses is smallest at the start.
    late = [step for step, row in losses.items() if name in row and 2 * step >= steps]
    return (min(late, key=lambda step: (losses[step][name], -step)),) if late else ()


def chosen(
    history: History, settings: TrainSettings, losses: History | None = None
) -> tuple[int, ...]:
    """The steps whose weights make the selected model.

    Args:
        history: scores by step.
        settings: of the training; ``keep`` decides.
        losses: by step, for methods that sum them up.

    Returns:
        Steps in order; empty if the model of the last step is selected.
    """
    if settings.keep in LOSSES:
        return least(losses or {}, settings.keep, settings.steps)
    count = {"last": 0, "best": 1, "average": min(AVERAGED, settings.checkpoints_kept)}[
        settings.keep
    ]
    return tuple(sorted(ranked(history)[:count]))


def flat(history: History, settings: TrainSettings) -> bool:
    """Whether the last ``stop_when_flat`` validations were no better than one before them."""
    # Only the second half counts: before, rising weights of losses and large steps still change the
    # model a lot.
    late = {step: scores for step, scores in history.items() if 2 * step >= settings.steps}
    best = ranked(late)[:1]
    since = [step for step in late if not best or step > best[0]]
    return 0 < settings.stop_when_flat <= len(since)


def collapsed(history: History, steps: int) -> bool:
    """Whether the last two validations after a warm-up are out of bounds.

    Two, because one bad validation can be an accident.
    """
    late = [scores for step, scores in sorted(history.items()) if step >= WARM_UP * steps][-2:]
    return len(late) == 2 and all(is_out_of_bounds(scores) for scores in late)


def is_out_of_bounds(scores: Scores) -> bool:
    """Whether a model finds no object, or far more or less foreground than the source has.

    False without scores.
    """
    low, high = BOUNDS
    return bool(scores) and (
        scores["objects"] == 0 or not low <= scores["foreground_ratio"] <= high
    )


def warning(scores: Scores) -> str:
    """What a collapsed model predicts, and the remedy, in one sentence."""
    ratio = scores["foreground_ratio"]
    if scores["objects"] == 0:
        finding = "nothing in the target"
    elif ratio > 1:
        finding = f"{ratio:.0f} times as much in the target as there is in the source's labels"
    else:
        finding = (
            f"less than 1/{1 / BOUNDS[0]:.0f} as much in the target as there is in the source's "
            "labels"
        )
    return (
        f"The model finds {finding}: try another method, or annotate a few patches and train from "
        "them."
    )


# Behind a warning: when it is none, and what else may help.
WARNING_DETAILS = (
    "If the target really holds that much more or less than the source, all is well. If not, a "
    "smaller learning rate may help, too."
)
# Why a model was kept.
_REASONS = {
    "supervised": "Its error on the labels was the smallest.",
    "total": "Its error, on labelled and unlabelled patches together, was the smallest.",
}
_SHAPES = "What it finds in the target looks most like the objects of the source."


def sentence(steps: Sequence[int], total: int, keep: str = "average") -> str:
    """Which model is selected and why, in two sentences.

    For example 'The model of step 1 400 of 2 000 was kept. What it finds …'.
    """
    numbers = [f"{step:,}".replace(",", " ") for step in (*steps, total)]
    reason = _REASONS.get(keep, _SHAPES)
    if len(steps) == 1:
        return f"The model of step {numbers[0]} of {numbers[-1]} was kept. {reason}"
    listed_steps = f"{listed(numbers[:-1])} of {numbers[-1]}"
    return f"The average of the models of steps {listed_steps} was kept. {reason}"


# -- losses ----------------------------------------------------------------------------------------


class LossAccumulator:
    """Sums of losses since the last validation, on the device; only `sums` waits for it.

    Args:
        unlabelled: names of the losses that need no labels; without any, nothing is summed up.
        sums: to continue from, as `sums` returns them.
    """

    def __init__(self, unlabelled: Sequence[str], sums: Scores | None = None) -> None:
        self._unlabelled = unlabelled
        self._sums = None if not sums else torch.tensor([sums[name] for name in LOSSES])

    def add(self, losses: Mapping[str, Tensor]) -> None:
        """Add the losses that a step has optimised."""
        if not self._unlabelled:
            return
        labelled = [loss for name, loss in losses.items() if name not in self._unlabelled]
        # float32: sums of hundreds of bfloat16 losses would lose digits.
        zero = next(iter(losses.values())).new_zeros((), dtype=torch.float32)
        sums = torch.stack([sum(terms, zero) for terms in (labelled, losses.values())])
        self._sums = sums if self._sums is None else self._sums.to(sums.device) + sums

    def sums(self) -> dict[str, float]:
        """``supervised`` and ``total``; empty if nothing was added."""
        return {} if self._sums is None else dict(zip(LOSSES, self._sums.tolist(), strict=True))

    def noted(self, state: TrainingState, step: int) -> TrainingState:
        """The state with the mean losses since the last validation; the sums start again at 0."""
        if self._sums is None:
            return state
        steps = step - max(state.losses, default=0)
        means = {name: value / steps for name, value in self.sums().items()}
        self._sums = None
        return state.model_copy(update={"losses": {**state.losses, step: means}})


# -- the models on disk ----------------------------------------------------------------------------


def wanted(state: TrainingState, step: int) -> set[int]:
    """Steps whose models are kept on disk after ``step``: best scores and smallest losses.

    Until the end of the training, also those that may still become one of the best.
    """
    count = state.settings.checkpoints_kept
    steps = state.settings.steps
    scored = (
        ranked(state.validations)[:count]
        if step >= steps
        else in_the_running(state.validations, count)
    )
    return {*scored, *(late for name in LOSSES for late in least(state.losses, name, steps))}


def keep_candidate(
    folder: RunFolder, header: ModelHeader, state: TrainingState, method: Method
) -> None:
    """Write the model of a validated step if it may be one of the best."""
    if header.step in wanted(state, header.step):
        path = folder.candidate(header.step)
        make_folder(path.parent)
        checkpoint.save(path, header, method, training=state)


def forget_others(folder: RunFolder, state: TrainingState, step: int) -> None:
    """Delete the models that are no longer among the best.

    Call it after the checkpoint with this state is written: a training that resumes from an older
    state may still need them.
    """
    kept = wanted(state, step)
    for candidate in folder.candidates():
        if candidate not in kept:
            folder.candidate(candidate).unlink()


def selected(
    folder: RunFolder, state: TrainingState, summary: DataSummary | None = None
) -> tuple[ModelHeader, TrainingState, Method] | None:
    """Load the selected model of a run; None if it is that of the last step.

    Args:
        folder: of the run.
        state: of the training.
        summary: of its data, on which the method's postprocessing depends.
    """
    steps = chosen(state.validations, state.settings, state.losses)
    if not steps:
        return None
    paths = [folder.candidate(step) for step in steps]
    # Header and scores of an average are those of its best model.
    first = next((step for step in ranked(state.validations) if step in steps), steps[0])
    best = folder.candidate(first)
    header = checkpoint.read_header(best).model_copy(update={"selected": steps})
    method = header.build(summary)
    checkpoint.load_average(paths, method)
    return header, TrainingState.read(best), method
