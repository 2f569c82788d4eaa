"""What a training does between its steps and after the last one: validate, save, choose a model."""

from __future__ import annotations

from collections.abc import Iterator

from napari_emda.events import Event, Notice, Saved, Validated
from napari_emda.inference import checkpoint
from napari_emda.training import model_selection
from napari_emda.training.phases import Phases
from napari_emda.training.target_statistics import VALIDATION_BATCHES, unchanged_statistics
from napari_emda.training.trainer import Training


def look_out(training: Training, step: int) -> Iterator[Notice]:
    """Once, after a warm-up, report what the method says has gone wrong."""
    if (
        not training.alarmed
        and step >= model_selection.WARM_UP * training.settings.steps
        and (alarm := training.method.alarm())
    ):
        training.alarmed = True
        yield Notice(alarm)


def validate(training: Training, step: int) -> Iterator[Event]:
    """If due, score the model without labels, note its losses, and keep it if it is good."""
    if not training.validation_due(step):
        return
    before = training.state.validations
    validations = before
    # Training must not depend on when it is validated.
    with unchanged_statistics(training.method.predictor):
        if training.measures_target():
            yield from training.measure(training.method, VALIDATION_BATCHES)
        training.header = training.header_of(step)
        if training.validator is not None:
            scores = yield from training.validator.scores(
                training.method.predictor, training.header, training.compute
            )
            validations = {**before, step: scores}
        # Not before: a training that is stopped while it scores does this anew when it goes on.
        state = training.tally.noted(training.state, step)
        training.state = state.model_copy(update={"validations": validations})
        training.state = training.state_of(step)
        model_selection.keep_candidate(
            training.folder, training.header, training.state, training.method
        )
    history = training.state.validations
    steps = training.settings.steps
    if step in history:
        best = next(iter(model_selection.ranked(history)), 0)
        yield Validated(step, history[step], best)
    # Only when it happens, not at each validation of a collapsed training.
    has_collapsed = model_selection.collapsed(history, steps)
    if has_collapsed and not model_selection.collapsed(before, steps):
        yield Notice(model_selection.warning(history[step]), model_selection.WARNING_DETAILS)


def save(training: Training, step: int) -> Iterator[Event]:
    """Measure what the predictor needs, and write the checkpoint of a step.

    Yields:
        Advanced while it measures, Saved at the end.
    """
    if training.measures_target():
        # A close calibration takes as long as dozens of steps, and is for the model that will be
        # used: `select` makes it where that is not this one.
        is_selected = not model_selection.chosen(
            training.state.validations, training.state.settings, training.state.losses
        )
        yield from training.adapt_statistics(final=step == training.settings.steps and is_selected)
    training.write(step)
    model_selection.forget_others(training.folder, training.state, step)
    yield Saved(str(training.path), step)


def select(training: Training, phases: Phases) -> Iterator[Event]:
    """Write the selected model, unless it is that of the last step.

    Yields:
        Phase before each part of it, Advanced within.
    """
    yield phases.choosing()
    selected = model_selection.selected(training.folder, training.state, training.method.summary)
    if selected is None:
        training.folder.selected.unlink(missing_ok=True)
        return
    header, state, method = selected
    method.to(training.compute.device)
    # The mean of several models' statistics is not that of the averaged weights.
    if training.measures_target():
        yield phases.calibrating()
        yield from training.measure(method, final=True)
        header = header.model_copy(update={"z_smoothing": training.z_smoothing})
    if training.validator is not None and len(header.selected) > 1:
        yield phases.scoring_again()
        scores = yield from training.validator.scores(method.predictor, header, training.compute)
        state = state.model_copy(update={"scores": scores})
    checkpoint.save(training.folder.selected, header, method, training=state)
