"""The journal of edits of objects: decisions, those taken back, and those repeated.

``object_edits.jsonl`` holds a line for each, ``{"edit": {...}}``, ``{"undo": ID}`` or
``{"redo": ID}``. Nothing in it is ever changed: what a person did can be read from it in order.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from napari_emda.data.names import check_file_name
from napari_emda.io.journal import append, read_journal
from napari_emda.io.safe_files import inside
from napari_emda.json_text import parse_json
from napari_emda.objects.edits import ObjectEdit, json_values

JOURNAL = "object_edits.jsonl"


@dataclass(frozen=True)
class Step:
    """An edit was taken back or repeated.

    Attributes:
        word: ``undo`` or ``redo``.
        id: of the edit.
    """

    word: str
    id: str


def parse_entry(line: bytes) -> ObjectEdit | Step:
    """Read a line of the journal; ValueError when it is damaged."""
    try:
        values = parse_json(line)
        if "edit" in values:
            return ObjectEdit.model_validate_json(json.dumps(values["edit"]))
        word = "undo" if "undo" in values else "redo"
        return Step(word, check_file_name(values[word]))
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"Not an edit of objects: {error}") from error


@dataclass
class EditHistory:
    """The edits that are in effect, and those that could be repeated, the latest last."""

    active: list[ObjectEdit] = field(default_factory=list)
    undone: list[ObjectEdit] = field(default_factory=list)

    def enter(self, entry: ObjectEdit | Step) -> None:
        """Follow the journal; a step that does not fit, next to a damaged line, has no effect."""
        if isinstance(entry, ObjectEdit):
            self.active.append(entry)
            self.undone.clear()
            return
        is_undo = entry.word == "undo"
        source, destination = (self.active, self.undone) if is_undo else (self.undone, self.active)
        if source and source[-1].id == entry.id:
            destination.append(source.pop())


class ObjectEdits:
    """The edits of the objects of a project; on disk after every call.

    Args:
        folder: of the project.
    """

    def __init__(self, folder: Path) -> None:
        self._path = inside(folder, JOURNAL)

    def read(self) -> EditHistory:
        """What the journal says; damaged lines are passed over."""
        history = EditHistory()
        for line in read_journal(self._path):
            with suppress(ValueError):
                history.enter(parse_entry(line.text or b""))
        return history

    def of(self, volume: str, class_name: str) -> list[ObjectEdit]:
        """The edits in effect of the objects of a class in a volume, of whichever run."""
        return [
            edit
            for edit in self.read().active
            if edit.volume == volume and edit.class_name == class_name
        ]

    def add(self, edit: ObjectEdit) -> None:
        """Note an edit before it is carried out."""
        append(self._path, [json.dumps({"edit": json_values(edit)})])

    def note(self, step: Step) -> None:
        """Note that an edit is taken back or repeated."""
        append(self._path, [json.dumps({step.word: step.id})])
