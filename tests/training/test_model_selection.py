"""Model selection: never an empty model, whatever the order of scores; same after a stop."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from napari_emda.errors import SettingsError
from napari_emda.events import Advanced, Notice, Phase, Saved, Stepped, Validated
from napari_emda.inference import checkpoint
from napari_emda.jobs.prepare_training import prepare
from napari_emda.project.job_files import TrainJob
from napari_emda.settings.training import LOSSES, TrainSettings
from napari_emda.training import between_steps, trainer
from napari_emda.training.loop import fit
from napari_emda.training.model_selection import (
    chosen,
    collapsed,
    flat,
    in_the_running,
    least,
    ranked,
    sentence,
    warning,
)
from napari_emda.training.state import TrainingState
from napari_emda.training.validation import Validator

GOOD = {"score": 1.0, "objects": 5.0, "foreground_ratio": 1.0}


def row(score=1.0, objects=5.0, ratio=1.0):
    return {"score": score, "objects": objects, "foreground_ratio": ratio}


TABLE = {
    100: row(3.0),
    200: row(0.1, objects=0.0),
    300: row(0.9),
    400: row(0.5),
    500: row(0.7),
    600: row(0.8),
}


# -- choosing --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keep", "steps"), [("last", ()), ("best", (400,)), ("average", (400, 500, 600))]
)
def test_the_known_best_are_chosen(keep, steps):
    assert chosen(TABLE, TrainSettings(keep=keep)) == steps


rows = st.builds(row, st.floats(0, 100), st.integers(0, 2).map(float))
tables = st.dictionaries(st.integers(1, 10_000), rows, max_size=30)


@given(tables, st.randoms(use_true_random=False))
def test_the_choice_is_the_least_score_with_an_object_whatever_the_order(table, random):
    items = list(table.items())
    random.shuffle(items)
    best = chosen(dict(items), TrainSettings(keep="best"))
    candidates = {step: scores["score"] for step, scores in table.items() if scores["objects"]}
    assert len(best) == bool(candidates)
    if candidates:
        late = {step: score for step, score in candidates.items() if 3 * step >= 2 * max(table)}
        assert candidates[best[0]] == min((late or candidates).values())
        assert best[0] == max(
            step for step, score in candidates.items() if score == candidates[best[0]]
        )
    assert ranked(dict(items)) == ranked(table)


@pytest.mark.parametrize("seed", range(20))
def test_a_model_that_becomes_one_of_the_best_is_still_on_disk(seed):
    random = np.random.default_rng(seed)
    history = {}
    on_disk = set()
    count = int(random.integers(1, 5))
    for step in range(1, 25):
        history[step] = {
            "objects": float(random.integers(5)),
            "score": round(float(random.random()), 1),
        }
        running = in_the_running(history, count)
        on_disk = (on_disk | {step}) & running
        assert set(ranked(history)[:count]) <= on_disk == running


def test_the_average_takes_no_more_than_is_kept():
    assert chosen(TABLE, TrainSettings(keep="average", checkpoints_kept=2)) == (400, 500)
    assert chosen({7: row()}, TrainSettings(keep="average")) == (7,)


def test_flat_counts_validations_without_gain_in_the_second_half():
    settings = TrainSettings(steps=1000, stop_when_flat=2)
    table = {500: row(2.0), 600: row(1.0), 700: row(1.1)}
    assert not flat(table, settings)
    assert flat({**table, 800: row(1.2)}, settings)
    assert not flat({**table, 800: row(0.9)}, settings)
    assert not flat({**table, 800: row(1.2)}, settings.model_copy(update={"stop_when_flat": 0}))
    early = {
        100: row(0.1),
        200: row(1.0),
        300: row(1.0),
        400: row(1.0),
        500: row(1.0),
        600: row(0.5),
    }
    assert not flat(early, settings)  # what came before half the steps sets no record


@pytest.mark.parametrize(
    "bad", [row(objects=0.0), row(ratio=0.09), row(ratio=10.1), row(ratio=0.0)]
)
def test_two_bad_validations_after_the_warm_up_are_a_collapse(bad):
    assert not collapsed({100: bad, 200: bad}, 1000)
    assert not collapsed({200: bad, 300: bad}, 1000)
    assert collapsed({300: row(), 400: bad, 500: bad}, 1000)
    assert not collapsed({300: bad, 400: bad, 500: row()}, 1000)
    assert not collapsed({300: row(ratio=0.11), 400: row(ratio=9.9)}, 1000)


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        (row(objects=0.0), "nothing in the target"),
        (row(ratio=12.0), "12 times as much in the target"),
        (row(ratio=0.05), "less than 1/10"),
    ],
)
def test_the_warning_of_a_collapse_is_one_sentence_with_a_remedy(scores, words):
    text = warning(scores)
    assert words in text
    assert "try another method" in text
    assert text.count(".") == 1


def test_the_selected_model_is_described_in_one_sentence():
    assert (
        sentence((1400,), 2000)
        == "The model of step 1 400 of 2 000 was kept. What it finds in the target looks most "
        "like the objects of the source."
    )
    assert sentence((8, 9, 10), 10).startswith(
        "The average of the models of steps 8, 9 and 10 of 10 was kept. What it finds"
    )
    assert sentence((300,), 500, "supervised").endswith("Its error on the labels was the smallest.")
    assert "labelled and unlabelled patches together" in sentence((300,), 500, "total")


# -- in a training ---------------------------------------------------------------------------------


@pytest.fixture
def parts(source, target):
    """A part of source and target: looking at them takes most of the time."""
    part = (slice(2), slice(64), slice(96))
    return [
        replace(
            volume,
            image=volume.image[part],
            labels=None if volume.labels is None else volume.labels[part],
        )
        for volume in (source, target)
    ]


@pytest.fixture
def make(make_training, parts, tmp_path):
    """A function that sets up a training that is validated after each step."""

    def make_one(folder="run", method="histogram", validates=True, volumes=parts, **values):
        values = {"steps": 5, "learning_rate": 1e-2, "validations": 5 if validates else 0, **values}
        training = make_training(volumes, tmp_path / folder, method, **values)
        if validates:
            training.validated_at = tuple(range(1, training.settings.steps + 1))
        return training

    return make_one


def validations_of(events):
    return [(event.step, event.scores) for event in events if isinstance(event, Validated)]


def crash_at(number, step, batch, index):
    return step(batch, index) if index < number else 1 / 0


def files(training):
    return {
        str(path.relative_to(training.folder.path)): path.read_bytes()
        for path in training.folder.path.rglob("*")
        if path.is_file()
    }


def test_validations_do_not_change_the_training(make, same_weights):
    validated = make("a")
    unvalidated = make("b", validates=False)
    assert len(validations_of(fit(validated))) == 5
    assert validations_of(fit(unvalidated)) == []
    before = {key: value.clone() for key, value in validated.method.state_dict().items()}
    validated.header = unvalidated.header
    validated.state = unvalidated.state
    assert len(validations_of(between_steps.validate(validated, 3))) == 1
    assert all(
        torch.equal(before[key], value) for key, value in validated.method.state_dict().items()
    )
    assert same_weights(validated.method, unvalidated.method)


@pytest.mark.parametrize(
    ("method", "keep"),
    [("histogram", "best"), ("source_only", "average"), ("mean_teacher", "average")],
)
def test_the_best_models_are_on_disk_and_the_selected_one_is_their_average(make, method, keep):
    training = make(method=method, keep=keep)
    history = dict(validations_of(fit(training)))
    kept = chosen(history, training.settings)
    by_loss = {
        step
        for name in LOSSES
        for step in least(training.state.losses, name, training.settings.steps)
    }
    assert set(training.folder.candidates()) == {*ranked(history)[:3], *by_loss}
    path = checkpoint.find(training.folder)
    header, model = checkpoint.load_method(path)
    assert header.selected == kept
    assert TrainingState.read(path).validations == {
        step: scores for step, scores in history.items() if step <= header.step
    }
    states = [
        checkpoint.load_method(training.folder.candidate(step))[1].state_dict() for step in kept
    ]
    for key, value in model.state_dict().items():
        if value.is_floating_point() and "running" not in key:
            expected = sum(state[key].double() for state in states) / len(states)
            torch.testing.assert_close(value.double(), expected, rtol=0, atol=1e-6)


def test_stopped_or_crashed_and_resumed_it_keeps_bitwise_the_same(make):
    values = {"save_every": 2, "keep": "average", "checkpoints_kept": 2}
    whole = make("whole", **values)
    list(fit(whole))
    # Before the first checkpoint, and late.
    for stop in (3, 14):
        stopped = make(f"stopped {stop}", **values)
        events = fit(stopped)
        for _ in range(stop):
            next(events)
        events.close()
        assert checkpoint.find(stopped.folder).exists()
        resumed = make(f"stopped {stop}", **values)
        list(fit(resumed))
        assert files(whole) == files(resumed)
    # A step after a checkpoint, which is done once more.
    crashing = make("crashed", **values)
    crashing.step = partial(crash_at, 3, crashing.step)
    with pytest.raises(ZeroDivisionError):
        list(fit(crashing))
    resumed = make("crashed", **values)
    list(fit(resumed))
    assert files(whole) == files(resumed)


def test_stopped_while_it_measures_or_scores_and_resumed_it_keeps_bitwise_the_same(make):
    whole = make("whole", "auto", steps=3, save_every=2)
    kinds = [event.kind for event in fit(whole)]
    advanced = [number for number, kind in enumerate(kinds) if kind == "advanced"]
    assert len(advanced) > 20
    # The first, one in the middle and the last of them, and what comes just before the end.
    for stop in (advanced[0], advanced[len(advanced) // 3], advanced[-1], len(kinds) - 2):
        stopped = make(f"stopped {stop}", "auto", steps=3, save_every=2)
        events = fit(stopped)
        for _ in range(stop + 1):
            next(events)
        events.close()
        resumed = make(f"stopped {stop}", "auto", steps=3, save_every=2)
        list(fit(resumed))
        assert files(whole) == files(resumed)


@pytest.mark.parametrize("keep", ["average", "last"])
def test_only_the_selected_model_is_calibrated_closely(keep, make, source, target, monkeypatch):
    calibrate = trainer.calibrate
    tiles = []

    def counted(predictor, regions, prior, postprocessing, sample):
        tiles.append(sample.tiles)
        return (yield from calibrate(predictor, regions, prior, postprocessing, sample))

    monkeypatch.setattr(trainer, "calibrate", counted)
    # The model finds objects only in all of the target: else none is selected.
    volumes = [source, target]
    training = make("once", "auto", keep=keep, volumes=volumes)
    list(fit(training))
    assert training.folder.selected.exists() == (keep == "average")
    assert tiles.count(trainer._TILES) == 1
    assert tiles[-1] == trainer._TILES

    # If the last step is calibrated closely, too, the selected model is the same bit for bit.
    twice = make("twice", "auto", keep=keep, volumes=volumes)
    monkeypatch.setattr(
        twice, "adapt_statistics", lambda *, final: twice.measure(twice.method, final=True)
    )
    list(fit(twice))
    models = [checkpoint.find(one.folder).read_bytes() for one in (training, twice)]
    assert models[0] == models[1]


def test_a_selected_last_model_needs_no_second_file(make):
    training = make(keep="last")
    list(fit(training))
    assert (
        checkpoint.find(training.folder)
        == checkpoint.find(training.folder, "last")
        == training.path
    )


def one_by_one(scores):
    """In place of `Validator.scores`: the next of these, with an event before it."""

    def scored(*_):
        yield Advanced(1, 1)
        return next(scores)

    return scored


def test_models_that_find_nothing_are_never_kept(make, monkeypatch):
    scores = iter([row(0.1, objects=0.0)] * 5)
    monkeypatch.setattr(Validator, "scores", one_by_one(scores))
    training = make()
    notices = [event.text for event in fit(training) if isinstance(event, Notice)]
    assert training.folder.candidates() == []
    assert checkpoint.find(training.folder) == training.path
    assert notices == [warning(row(objects=0.0))]  # once, though it stays so


def test_a_flat_training_stops_and_has_nothing_left_to_do(make, monkeypatch):
    scores = iter([row(1.0 + step) for step in range(20)])
    monkeypatch.setattr(Validator, "scores", one_by_one(scores))
    training = make(steps=10, stop_when_flat=2)
    events = list(fit(training))
    assert [event.step for event in events if isinstance(event, Stepped)][-1] == 7
    assert [event.step for event in events if isinstance(event, Saved)] == [7]
    again = make(steps=10, stop_when_flat=2)
    assert [event for event in fit(again) if not isinstance(event, Phase | Advanced)] == []


def test_each_model_of_a_run_is_found_by_its_name(make):
    training = make()
    list(fit(training))
    kept = training.folder.candidates()
    assert (
        checkpoint.find(training.folder, "last")
        == checkpoint.find(training.folder, "5")
        == training.path
    )
    for step in set(kept) - {5}:
        assert checkpoint.read_header(checkpoint.find(training.folder, str(step))).step == step
    names = {
        checkpoint.read_header(checkpoint.find(training.folder, which)).model
        for which in ("selected", "last")
    }
    assert len(names) == 2
    with pytest.raises(checkpoint.JobError, match="has no model '99': choose selected, last or "):
        checkpoint.find(training.folder, "99")


# -- by the losses ---------------------------------------------------------------------------------

KEPT_BY_LOSS = {
    "steps": 8,
    "report_every": 1,
    "save_every": 3,
    "checkpoints_kept": 1,
    "learning_rate": 0.05,
    "validations": 4,
}


def validated_every_second_step(training):
    """Validate a training after every second step."""
    training.validated_at = (2, 4, 6, 8)
    return training


def two_step_means(events):
    """By NumPy, from the curves of a training: labelled and all losses, means of two steps each."""
    curves = [event.losses for event in events if isinstance(event, Stepped)]
    labelled = np.array(
        [
            sum(row.get(name, 0) for name in ("segmentation", "target_segmentation"))
            for row in curves
        ]
    )
    both = labelled + [row["consistency"] for row in curves]
    return {
        name: values.reshape(-1, 2).mean(1)
        for name, values in (("supervised", labelled), ("total", both))
    }


@pytest.mark.parametrize(
    ("method", "method_settings", "alone"),
    [("uda", {"weight": 10}, False), ("uda", {"weight": 10}, True), ("mean_teacher", {}, False)],
)
@pytest.mark.parametrize("keep", LOSSES)
def test_the_smallest_loss_on_the_curve_is_kept_with_and_without_a_target(
    keep, method, method_settings, alone, make_training, parts, tmp_path
):
    volumes = parts[:1] if alone else parts
    training = validated_every_second_step(
        make_training(volumes, tmp_path / "run", method, method_settings, keep=keep, **KEPT_BY_LOSS)
    )
    curves = two_step_means(fit(training))
    for name, values in curves.items():
        np.testing.assert_allclose(
            [row[name] for row in training.state.losses.values()], values, rtol=1e-5
        )
    first = (
        -(-len(curves["total"]) // 2) - 1
    )  # looks of the second half; while weights rise, sums tell nothing
    wanted = {
        name: 2 * (1 + first + int(values[first:].argmin())) for name, values in curves.items()
    }
    assert checkpoint.read_header(checkpoint.find(training.folder)).selected == (wanted[keep],)
    assert set(training.folder.candidates()) == set(wanted.values())  # both, whichever is used


@pytest.mark.parametrize("stop", [1, 3, 5])
def test_sums_of_losses_survive_a_stop(stop, make_training, parts, tmp_path):
    def make_one(folder):
        return validated_every_second_step(
            make_training(parts[:1], tmp_path / folder, "uda", keep="total", **KEPT_BY_LOSS)
        )

    whole = make_one("whole")
    stopped = make_one("stopped")
    resumed = make_one("stopped")
    list(fit(whole))
    events = fit(stopped)
    while not (isinstance(event := next(events), Stepped) and event.step == stop):
        pass
    events.close()
    list(fit(resumed))
    assert files(whole) == files(resumed)


def test_of_equal_losses_the_later_step_is_kept():
    losses = {step: {"total": loss} for step, loss in ((2, 0.1), (4, 0.5), (6, 0.2), (8, 0.2))}
    assert least(losses, "total", 8) == (8,)


def test_without_an_unlabelled_loss_one_cannot_keep_by_it(make_project, tmp_path):
    with make_project(tmp_path / "project") as project:
        job = TrainJob(
            project=str(project.folder), method="source_only", settings=TrainSettings(keep="total")
        )
        with pytest.raises(
            SettingsError, match=r"source_only has none: choose last, best or average, or .*uda"
        ):
            prepare(project, job, None)
        blind = TrainSettings(keep="total", validations=0)
        with pytest.raises(SettingsError, match="validations=0 makes none: choose 1 or more"):
            prepare(project, job.model_copy(update={"method": "uda", "settings": blind}), None)


@given(
    st.dictionaries(st.integers(1, 10_000), st.floats(0, 100), max_size=30),
    st.randoms(use_true_random=False),
)
def test_the_least_loss_is_the_latest_of_equals_whatever_the_order(table, random):
    items = [(step, {"total": loss}) for step, loss in table.items()]
    random.shuffle(items)
    found = chosen({}, TrainSettings(steps=5000, keep="total"), dict(items))
    late = {step: loss for step, loss in table.items() if step >= 2500}
    assert len(found) == bool(late)
    if late:
        assert found[0] == max(step for step, loss in late.items() if loss == min(late.values()))
    assert chosen({}, TrainSettings(keep="supervised"), dict(items)) == ()
