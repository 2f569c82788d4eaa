"""The next step of the work, from what there is and what the panels say. No Qt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Action = Literal[
    "use layers",
    "start",
    "resume",
    "name clusters",
    "use clusters",
    "suggest",
    "next",
    "done",
    "retrain",
    "predict",
    "export",
    "watch",
]
"""Each stands for a button of a panel; *watch* opens the panel of the running job."""


@dataclass(frozen=True)
class Work:
    """All that decides the next step.

    Attributes:
        project: name of the open project's folder; empty without one.
        volume: name of the target.
        model: name of the newest run that has a model; empty without one.
        running: what runs, such as ``training``; empty if nothing does.
        interrupted: whether the newest training was interrupted and can go on.
        finds_clusters: whether the newest model finds clusters, none of which has a name.
        clusters_named: whether the newest model finds clusters, some of which have a name.
        patches: number of patches of the round.
        decided: how many of them are decided.
        on_view: number of the patch that is being painted, from 1; 0 if none is.
        auditing: whether the patches are those of an audit, which begin with nothing.
        to_learn: whether there are annotations that the newest model has not learned from.
        learned: whether the newest model has learned from annotations of a target.
        predicted: whether the newest model has predicted the target.
        exported: whether something of the newest model was exported while the dock was open.
        reasons: why the button of an action cannot be pressed, as its panel words it.
    """

    project: str = ""
    volume: str = ""
    model: str = ""
    running: str = ""
    interrupted: bool = False
    finds_clusters: bool = False
    clusters_named: bool = False
    patches: int = 0
    decided: int = 0
    on_view: int = 0
    auditing: bool = False
    to_learn: bool = False
    learned: bool = False
    predicted: bool = False
    exported: bool = False
    reasons: Mapping[Action, str] = field(default_factory=dict)


@dataclass(frozen=True)
class NextStep:
    """What to do next.

    Attributes:
        sentence: what to do and why, or why it is not possible yet.
        button: the text of the button.
        action: what the button does.
        possible: whether the button can be pressed.
    """

    sentence: str
    button: str
    action: Action
    possible: bool = True


def place(work: Work) -> str:
    """Where the user is: project, volume and model."""
    if not work.project:
        return "No project yet"
    return " · ".join((work.project, work.volume or "no target", work.model or "no model yet"))


def next_step(work: Work) -> NextStep:
    """The step that follows from the state of the work."""
    step = _step(work)
    reason = work.reasons.get(step.action, "")
    return NextStep(reason, step.button, step.action, possible=False) if reason else step


def _step(work: Work) -> NextStep:
    if not work.project:
        return NextStep("Make a project of the chosen layers.", "Use these layers", "use layers")
    # Before the running job: a patch can be painted while a model is being trained.
    if work.on_view:
        return NextStep(
            f"Patch {work.on_view} of {work.patches}: {_what_to_do(work)} it, then accept it.",
            "Done",
            "done",
        )
    if work.running:
        return NextStep(f"The {work.running} is running.", "Show progress", "watch")
    # Before the training: whoever has asked for patches without a model wants to annotate first.
    if work.decided < work.patches:
        left = work.patches - work.decided
        sentence = f"{left} of {work.patches} patches to {_what_to_do(work)}."
        return NextStep(sentence, "Next patch", "next")
    # Whoever has annotated since wants the model to learn that, not to go on as before.
    if work.interrupted and not (work.model and work.to_learn):
        return NextStep("The last training was interrupted.", "Resume", "resume")
    if not work.model:
        return NextStep("Train a first model.", "Start", "start")
    if work.finds_clusters:
        return NextStep("Say what the clusters show.", "Name clusters", "name clusters")
    if work.clusters_named and not work.to_learn:
        sentence = "Name more clusters, or correct patches that begin with them."
        return NextStep(sentence, "Use as labels", "use clusters")
    return _after_training(work)


def _what_to_do(work: Work) -> str:
    # In an audit there is nothing to correct: the prediction stays hidden.
    return "paint" if work.auditing else "correct"


def _after_training(work: Work) -> NextStep:
    """The step when a model exists and no patch is open."""
    if work.to_learn:
        return NextStep("Let the model learn from your corrections.", "Retrain", "retrain")
    if not work.learned:
        return NextStep(
            "See where the model is least certain, and correct it there.",
            "Suggest patches",
            "suggest",
        )
    if not work.predicted:
        return NextStep("Segment the whole volume with the new model.", "Predict", "predict")
    if not work.exported:
        return NextStep("Save the result, or suggest more patches.", "Export", "export")
    return NextStep(
        "The result is saved. Another round makes the model better.", "Suggest patches", "suggest"
    )
