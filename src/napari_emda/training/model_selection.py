"""Which of a training's models to keep when nobody has labelled the target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from napari_emda.inference import checkpoint
from napari_emda.inference.model_header import ModelHeader
from napari_emda.methods.base import Method
from napari_emda.project.run_folder import RunFolder
from napari_emda.settings.training import LOSSES, TrainSettings
from napari_emda.training.state import TrainingState

Scores = Mapping[str, float]
"""Label-free scores of one model by name, see `validation.Validator.scores`; or its losses, see `LossAccumulator`."""
History = Mapping[int, Scores]
"""Scores or losses by step."""
AVERAGED = 3
"""Models of which an average is made."""
BOUNDS = (0.1, 10.0)
"""Foreground of the target as a multiple of the source's, beyond which a training counts as collapsed."""
WARM_UP = 0.25
"""Share of the steps in which anything may happen."""


# -- choosing ----------------------------------------------------------------------------------------------------


def ranked(history: History) -> list[int]:
    """Steps by their score, the best first (of equals the latest); those without any object are left out.

    Those of the first two thirds come last: while the learning rate is large, what looks good is good by luck.
    """
    found = [step for step, scores in history.items() if scores["objects"] > 0]
    settled = max(history, default=0) * 2 / 3
    return sorted(found, key=lambda step: (step < settled, history[step]["score"], -step))


def in_the_running(history: History, count: int) -> set[int]:
    """Steps that are, or can still come, among the first ``count`` of `ranked`, however the training goes on.

    The last third moves on with the training, so that a step may come to be wanted when better ones before it no longer
    count: only so many better ones after it rule it out.
    """
    found = [step for step, scores in history.items() if scores["objects"] > 0]

    def better_later(step: int) -> int:
        return sum(
            later > step and history[later]["score"] <= history[step]["score"] for later in found
        )

    return {step for step in found if better_later(step) < count}


def least(losses: History, name: str, steps: int) -> tuple[int, ...]:
    """The step with the smallest loss of a name in the second half, of equals the latest; none without such a loss.

    The first half of the ``steps`` of a training never counts: until then weights of losses may rise, and a sum of
    losses is smallest before.
    """
    late = [step for step, row in losses.items() if name in row and 2 * step >= steps]
    return (min(late, key=lambda step: (losses[step][name], -step)),) if late else ()


def chosen(
    history: History, settings: TrainSettings, losses: History | None = None
) -> tuple[int, ...]:
    """The steps whose weights make the model to be used, in order; none means that of the last step.

    Args:
        history: scores by step.
        settings: of the training; ``keep`` decides.
        losses: by step, where some are tallied.
    """
    if settings.keep in LOSSES:
        return least(losses or {}, settings.keep, settings.steps)
    count = {"last": 0, "best": 1, "average": min(AVERAGED, settings.checkpoints_kept)}[
        settings.keep
    ]
    return tuple(sorted(ranked(history)[:count]))


def flat(history: History, settings: TrainSettings) -> bool:
    """Whether ``stop_when_flat`` validations in the second half of a training have brought nothing better.

    The first half never counts: until then ramps of methods, and large steps, still change everything.
    """
    late = {step: scores for step, scores in history.items() if 2 * step >= settings.steps}
    best = ranked(late)[:1]
    since = [step for step in late if not best or step > best[0]]
    return 0 < settings.stop_when_flat <= len(since)


def collapsed(history: History, steps: int) -> bool:
    """Whether the last two validations after a warm-up found nothing, or far too much or too little."""
    late = [scores for step, scores in sorted(history.items()) if step >= WARM_UP * steps][-2:]
    return len(late) == 2 and all(is_out_of_bounds(scores) for scores in late)


def is_out_of_bounds(scores: Scores) -> bool:
    """Whether a model finds no object, or a foreground that is far from the source's; no, where nobody looked."""
    low, high = BOUNDS
    return bool(scores) and (
        scores["objects"] == 0 or not low <= scores["foreground_ratio"] <= high
    )


def warning(scores: Scores) -> str:
    """What a collapsed training looks like and what to do about it, in one sentence."""
    ratio = scores["foreground_ratio"]
    if scores["objects"] == 0:
        what = "nothing in the target"
    elif ratio > 1:
        what = f"{ratio:.0f} times as much foreground in the target as there is in the source"
    else:
        what = f"in the target less than 1/{1 / BOUNDS[0]:.0f} of the foreground that there is in the source"
    return (
        f"The training seems to have collapsed, for the model finds {what}: try another method, a smaller learning "
        "rate, or a few annotated patches."
    )


_REASONS = {"supervised": "the least loss on labels", "total": "the least sum of all losses"}


def sentence(steps: Sequence[int], total: int, keep: str = "average") -> str:
    """What was kept and why: 'step 1 400 of 2 000: object shapes closest to those of the source'."""
    numbers = [f"{step:,}".replace(",", " ") for step in (*steps, total)]
    reason = _REASONS.get(keep, "object shapes closest to those of the source")
    if len(steps) == 1:
        return f"step {numbers[0]} of {numbers[-1]}: {reason}"
    listed = ", ".join(numbers[:-2]) + f" and {numbers[-2]}"
    return f"the average of steps {listed} of {numbers[-1]}: {reason}"


# -- losses ------------------------------------------------------------------------------------------------------


class LossAccumulator:
    """Sums of losses since the last look, on the device; asking for them is the one moment that waits for it.

    Args:
        unlabelled: names of the losses that need no labels; where there are none, nothing is tallied.
        sums: what was tallied before, as `sums` gives it.
    """

    def __init__(self, unlabelled: Sequence[str], sums: Scores | None = None) -> None:
        self._unlabelled = unlabelled
        self._sums = None if not sums else torch.tensor([sums[name] for name in LOSSES])

    def add(self, losses: Mapping[str, Tensor]) -> None:
        """Count the losses of a step, those that are optimised alone."""
        if not self._unlabelled:
            return
        labelled = [loss for name, loss in losses.items() if name not in self._unlabelled]
        nothing = next(iter(losses.values())).new_zeros((), dtype=torch.float32)
        now = torch.stack([sum(part, nothing) for part in (labelled, losses.values())])
        self._sums = now if self._sums is None else self._sums.to(now.device) + now

    def sums(self) -> dict[str, float]:
        """``supervised`` and ``total``; empty where nothing was tallied."""
        return {} if self._sums is None else dict(zip(LOSSES, self._sums.tolist(), strict=True))

    def noted(self, state: TrainingState, step: int) -> TrainingState:
        """The state with the means since the last validation; then begin anew."""
        if self._sums is None:
            return state
        steps = step - max(state.losses, default=0)
        means = {name: value / steps for name, value in self.sums().items()}
        self._sums = None
        return state.model_copy(update={"losses": {**state.losses, step: means}})


# -- the models on disk ------------------------------------------------------------------------------------------


def wanted(state: TrainingState, step: int) -> set[int]:
    """The steps whose models are to be on disk after ``step``: of best scores and least losses.

    Until the training is over also those that may come to be among the best.
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
    """Write the model of a validated step when it may be one of the best."""
    if header.step in wanted(state, header.step):
        path = folder.candidate(header.step)
        path.parent.mkdir(exist_ok=True)
        checkpoint.save(path, header, method, training=state)


def forget_others(folder: RunFolder, state: TrainingState, step: int) -> None:
    """Delete the models that are not among the best any more; a checkpoint that knows it must be on disk."""
    kept = wanted(state, step)
    for candidate in folder.candidates():
        if candidate not in kept:
            folder.candidate(candidate).unlink()


def selected(
    folder: RunFolder, state: TrainingState
) -> tuple[ModelHeader, TrainingState, Method] | None:
    """The model that a run is to be used with; None when it is that of the last step."""
    steps = chosen(state.validations, state.settings, state.losses)
    if not steps:
        return None
    paths = [folder.candidate(step) for step in steps]
    first = next((step for step in ranked(state.validations) if step in steps), steps[0])
    best = folder.candidate(first)
    header = checkpoint.read_header(best).model_copy(update={"selected": steps})
    method = header.build()
    checkpoint.load_average(paths, method)
    return header, TrainingState.read(best), method
