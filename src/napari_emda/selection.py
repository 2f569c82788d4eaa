"""Which of a training's models to keep when nobody has labelled the target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from napari_emda import checkpoint
from napari_emda.checkpoint import Header
from napari_emda.methods.base import Method
from napari_emda.settings import TrainSettings

Scores = Mapping[str, float]
"""Label-free scores of one model by name; see `validation.Validator.scores`."""
History = Mapping[int, Scores]
"""Scores by step."""
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


def chosen(history: History, settings: TrainSettings) -> tuple[int, ...]:
    """The steps whose weights make the model to be used, in order; none means that of the last step."""
    count = {"last": 0, "best": 1, "average": min(AVERAGED, settings.checkpoints_kept)}[settings.keep]
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
    return bool(scores) and (scores["objects"] == 0 or not low <= scores["foreground_ratio"] <= high)


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


def sentence(steps: Sequence[int], total: int) -> str:
    """What was kept and why: 'step 1 400 of 2 000: object shapes closest to those of the source'."""
    numbers = [f"{step:,}".replace(",", " ") for step in (*steps, total)]
    if len(steps) == 1:
        return f"step {numbers[0]} of {numbers[-1]}: object shapes closest to those of the source"
    listed = ", ".join(numbers[:-2]) + f" and {numbers[-2]}"
    return f"the average of steps {listed} of {numbers[-1]}: object shapes closest to those of the source"


# -- the models on disk ------------------------------------------------------------------------------------------


def keep_candidate(folder: Path, header: Header, method: Method) -> None:
    """Write the model of a validated step when it is one of the best so far."""
    if header.step in ranked(header.validations)[: header.settings.checkpoints_kept]:
        path = checkpoint.candidate(folder, header.step)
        path.parent.mkdir(exist_ok=True)
        checkpoint.save(path, header, method)


def forget_others(folder: Path, header: Header) -> None:
    """Delete the models that are not among the best any more; a checkpoint that knows it must be on disk."""
    kept = ranked(header.validations)[: header.settings.checkpoints_kept]
    for step in checkpoint.candidates(folder):
        if step not in kept:
            checkpoint.candidate(folder, step).unlink()


def selected(folder: Path, header: Header) -> tuple[Header, Method] | None:
    """The model that a run is to be used with; None when it is that of the last step."""
    steps = chosen(header.validations, header.settings)
    if not steps:
        return None
    paths = [checkpoint.candidate(folder, step) for step in steps]
    best = min(steps, key=ranked(header.validations).index)
    header = checkpoint.read_header(checkpoint.candidate(folder, best)).model_copy(update={"selected": steps})
    method = header.build()
    checkpoint.load_average(paths, method)
    return header, method
