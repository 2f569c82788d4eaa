"""The next step, as a table."""

import pytest

from napari_emda._gui.guide.next_step import Work, next_step, place

PROJECT = {"project": "p", "volume": "new"}
MODEL = {**PROJECT, "model": "001-auto"}
ROUND = {**MODEL, "patches": 3}

# What there is, and the button that follows; in the order in which a user meets them.
TABLE = {
    "nothing yet": ({}, "Use these layers"),
    "a project": (PROJECT, "Start"),
    "the first training runs": ({**PROJECT, "running": "training"}, "Show progress"),
    "the first training was interrupted": ({**PROJECT, "interrupted": True}, "Resume"),
    "patches before any model": ({**PROJECT, "patches": 3}, "Next patch"),
    "annotated before any model": (
        {**PROJECT, "patches": 3, "decided": 3, "to_learn": True},
        "Start",
    ),
    "a first model": (MODEL, "Suggest patches"),
    "a first model that has predicted": ({**MODEL, "predicted": True}, "Suggest patches"),
    "a model of clusters": ({**MODEL, "finds_clusters": True}, "Name clusters"),
    "named clusters": ({**MODEL, "clusters_named": True}, "Use as labels"),
    "suggested": (ROUND, "Next patch"),
    "a patch on view": ({**ROUND, "on_view": 1}, "Done"),
    "a patch on view while a training runs": (
        {**ROUND, "on_view": 1, "running": "training"},
        "Done",
    ),
    "a patch left": ({**ROUND, "decided": 1, "to_learn": True}, "Next patch"),
    "all decided": ({**ROUND, "decided": 3, "to_learn": True}, "Retrain"),
    "all put aside": ({**ROUND, "decided": 3}, "Suggest patches"),
    "retraining was interrupted": (
        {**ROUND, "decided": 3, "learned": True, "interrupted": True},
        "Resume",
    ),
    "annotated after an interruption": (
        {**ROUND, "decided": 3, "to_learn": True, "interrupted": True},
        "Retrain",
    ),
    "retrained": ({**ROUND, "decided": 3, "learned": True}, "Predict"),
    "predicted": ({**ROUND, "decided": 3, "learned": True, "predicted": True}, "Export"),
    "exported": (
        {**ROUND, "decided": 3, "learned": True, "predicted": True, "exported": True},
        "Suggest patches",
    ),
}


@pytest.mark.parametrize("state", TABLE)
def test_the_next_step_of_each_state(state):
    values, button = TABLE[state]
    step = next_step(Work(**values))
    assert step.button == button
    assert step.possible
    assert step.sentence.endswith(".")


def test_what_is_missing_is_worded_as_the_panel_words_it():
    step = next_step(Work(reasons={"use layers": "Still needed: a target image."}))
    assert (step.sentence, step.button, step.possible) == (
        "Still needed: a target image.",
        "Use these layers",
        False,
    )
    other = next_step(Work(**PROJECT, reasons={"use layers": "Still needed: a target image."}))
    assert other.button == "Start" and other.possible


def test_where_the_user_is():
    assert place(Work()) == "No project yet"
    assert place(Work(**PROJECT)) == "p · new · no model yet"
    assert place(Work(**MODEL)) == "p · new · 001-auto"
