"""What the numbers in the chosen labels mean: a choice, and questions where it is not clear."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from napari.layers import Layer
from psygnal import Signal
from qtpy.QtWidgets import QComboBox, QWidget

from napari_emda._gui.common import question as widgets
from napari_emda._gui.common.layer_volumes import numbers_of
from napari_emda._gui.common.widgets import Sentence, column, narrow
from napari_emda._gui.data.layer_widgets import LayerChoice
from napari_emda._gui.data.project_setup import Stoppable
from napari_emda._gui.open_project import OpenProject
from napari_emda._gui.session import Session
from napari_emda.data.label_meaning import LabelMeaning
from napari_emda.data.label_question import Question, question, value_remark
from napari_emda.data.label_values import LabelValues, inspect

BACKGROUND = "0 means background"
SECTIONS = "0 means background in labelled sections"
UNANNOTATED = "0 not annotated, 1 background"
OF_SOURCE = {
    BACKGROUND: LabelMeaning(),
    SECTIONS: LabelMeaning(labelled_sections=True),
    UNANNOTATED: LabelMeaning(background=1, ignore=(0,)),
}
"""What 0 can mean in the labels of a source, which are complete as a rule."""
# Sections that are read at most: enough to see whether half of them are empty, and quick even on a
# network drive.
_MOST_SECTIONS = 64


class LabelNumbers(QWidget):
    """The choice of what 0 means, and a question where other numbers are not clear.

    Args:
        session: of the dock.
        labels: the choice of the labels layer.
        choices: what 0 can mean, by its words.
        classes: returns the names of the classes, background first.

    Attributes:
        question: about numbers that may mean background, or that nobody looked there.
    """

    changed = Signal()
    """A question was asked or answered."""

    def __init__(
        self,
        session: Session,
        labels: LayerChoice,
        choices: Mapping[str, LabelMeaning],
        classes: Callable[[], tuple[str, ...]],
    ) -> None:
        super().__init__()
        self._session = session
        self._labels = labels
        self._choices = choices
        self._classes = classes
        self._stop = threading.Event()
        self._found: LabelValues | None = None
        self._background: int | None = None
        self._ignore: tuple[int, ...] | None = None
        # Of labels of the open project, whose numbers were asked about when it was created.
        self._stored: LabelMeaning | None = None
        self.box = narrow(QComboBox())
        self.box.addItems(list(choices))
        self.box.setToolTip(
            "What the value 0 means in the labels: background everywhere; background in the "
            "sections that hold any label, the others being unlabelled; or not annotated."
        )
        self.box.setAccessibleName("what 0 means in the labels")
        self.hint = Sentence()
        self.question = widgets.Question()
        column(self, self.box, self.question, self.hint, margin=0)
        self.box.currentTextChanged.connect(lambda _: self.review())
        labels.chosen.connect(self._read)
        # Labels become the project's when it is created of them.
        session.project_changed.connect(self._read)
        session.closing.connect(self._stop.set)

    @property
    def meaning(self) -> LabelMeaning:
        """What the numbers mean, as far as it was said."""
        if self._stored is not None:
            return self._stored
        chosen = self._choices[self.box.currentText()]
        ignore = chosen.ignore
        if self._ignore is not None:
            ignore = (*(ignore or ()), *self._ignore)
        background = chosen.background if chosen.background is not None else self._background
        return replace(chosen, background=background, ignore=ignore)

    @property
    def asks(self) -> bool:
        """Whether the user has to answer before the labels can be used."""
        return self.question.asked

    def _read(self) -> None:
        layer = self._labels.layer()
        self._found = None
        opened = self._session.opened
        self._stored = None if opened is None or layer is None else stored_meaning(opened, layer)
        self._forget_answers()
        # In the background, because it reads sections, perhaps over a network.
        if layer is not None and not self._stop.is_set():
            array = Stoppable(numbers_of(layer), self._stop)
            self._session.in_background(
                lambda: inspect(array, _MOST_SECTIONS),
                partial(self._on_read, layer),
                lambda text: None,  # the checks will say why
            )

    def _on_read(self, layer: Layer, found: LabelValues) -> None:
        # The user may have chosen other labels meanwhile.
        if layer is self._labels.layer():
            self._found = found
            self.review()

    def _forget_answers(self) -> None:
        self._background = None
        self._ignore = None
        self.review()

    def review(self) -> None:
        """Ask what is not clear yet, or point out what the user should know."""
        meaning = self.meaning
        # What it says of 0 is wrong where another number is the background.
        self.box.setVisible(self._stored is None and not self._background)
        asked = None
        if self._found is not None and self._stored is None:
            asked = question(self._found, meaning, len(self._classes()))
        if asked is not None:
            self.ask(asked)
        else:
            self.question.clear()
            self.hint.show_text(self._hint(meaning), "hint")
        self.changed.emit()

    def _hint(self, meaning: LabelMeaning) -> str:
        said = [f"{number}: nobody looked there" for number in self._ignore or ()]
        if self._background:
            said.insert(0, f"{self._background}: background")
        sentences = [f"{', '.join(said)}."] if said else []
        found = self._found
        if found is None or self._stored is not None:
            return " ".join(sentences)
        if few := found.hint(meaning):
            sentences.append(
                f"{few}. If they are unlabelled rather than empty, choose '{SECTIONS}'."
            )
        # Further sections may hold further numbers.
        complete = found.sections < _MOST_SECTIONS
        values = found.without(meaning.ignore or ())
        if remark := value_remark(values, self._classes(), meaning, complete=complete):
            sentences.append(f"{remark[0].upper()}{remark[1:]}.")
            if len(self._classes()) == 2:
                sentences.append(
                    "If they are classes, name all of them; if they are grey values, choose other "
                    "labels."
                )
        return " ".join(sentences)

    def ask(self, asked: Question) -> None:
        """Ask a question about the chosen labels."""
        layer = self._labels.layer()
        name = "" if layer is None else f"In '{layer.name}', "
        self.hint.show_text("")
        number = asked.number
        if asked.about == "background":
            self._ask_for_background(f"{name}{asked.text}", number, asked.another)
        else:
            answers = {
                "Nobody looked there": (
                    f"Voxels of {number} are not labelled, and nothing is learnt from them.",
                    partial(self._say, ignore=number),
                )
            }
            # Numbers below 0 are no classes, whatever the user says.
            if number > 0 and not asked.otherwise:
                answers[f"{number} is labelled"] = (
                    f"Voxels of {number} are a structure like those of other numbers.",
                    partial(self._say, ignore=None),
                )
            remedy = f" Otherwise {asked.otherwise}." if asked.otherwise else ""
            self.question.ask(f"{name}{asked.text}. Did nobody look there?{remedy}", answers)
        self.changed.emit()

    def _ask_for_background(self, text: str, likely: int, another: int | None) -> None:
        answers = {}
        for number in (likely, another):
            if number is not None:
                answers[f"{number} means background"] = (
                    f"Voxels of {number} are background, and the other numbers are structures.",
                    partial(self._say, background=number),
                )
        if another != 0:
            answers["Nothing is background"] = (
                "All numbers are structures; no voxel of the background is labelled.",
                partial(self._say, background=0),
            )
        self.question.ask(f"{text}. Does {likely} mean background?", answers)

    def _say(self, *, background: int | None = None, ignore: int | None = None) -> None:
        if background is not None:
            self._background = background
        else:
            said = self._ignore or ()
            self._ignore = said if ignore is None else (*said, ignore)
        self.review()


def stored_meaning(opened: OpenProject, layer: Layer) -> LabelMeaning | None:
    """What the numbers in a project's labels mean; None if a layer shows none of them."""
    _, labels = opened.layers
    for name, shown in labels.items():
        if shown is layer:
            entry = opened.project.volumes.entry(name)
            return entry.labels_meaning or LabelMeaning.of_zero(entry.labels_zero)
    return None
