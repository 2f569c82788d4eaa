"""Proofreading objects on the command line: the queue, decisions, undo and redo."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_emda.cli.console import echo, print_result, print_table
from napari_emda.errors import SettingsError
from napari_emda.objects.edits import ObjectEdit
from napari_emda.project.project import Project
from napari_emda.project.proofreading import Proofreading, reconcile

_VOXEL = r"([0-9]{1,9}),([0-9]{1,9}),([0-9]{1,9})"
_ONE = re.compile(r"(good|delete|redraw) ([0-9]{1,10})")
_MERGE = re.compile(r"merge ([0-9]{1,10}) ([0-9]{1,10})")
_SPLIT = re.compile(rf"split ([0-9]{{1,10}}) {_VOXEL} {_VOXEL}")


@dataclass(frozen=True)
class Request:
    """What is asked for, in this order.

    Attributes:
        edits: as they are typed.
        undo: whether the latest edit is taken back, before those.
        redo: whether the edit that was taken back last is repeated, before those.
        queue: whether to list the suspicious objects.
        most: how many of them.
    """

    edits: tuple[str, ...]
    undo: bool
    redo: bool
    queue: bool
    most: int


def proofread(
    request: Request,
    folder: Path,
    run: str | None,
    volume: str | None,
    class_name: str | None,
    *,
    as_json: bool,
) -> None:
    """Carry out what is asked for, and print it.

    Raises:
        EmdaError: an edit cannot be read or does not fit; those before it are kept.
    """
    if request.undo and request.redo:
        raise SettingsError("--undo and --redo cancel each other: give one of them.")
    for text in request.edits:
        _check(text)
    changes = bool(request.edits) or request.undo or request.redo
    with Project.open(folder, exclusive=changes) as project:
        if changes:
            reconcile(project)
        objects = Proofreading.of(project, run, volume, class_name)
        done = []
        for wanted, act, word in (
            (request.undo, objects.undo, "undone"),
            (request.redo, objects.redo, "repeated"),
        ):
            edit = act() if wanted else None
            if edit is not None:
                done.append(_values(edit, word))
        for text in request.edits:
            done.append(_values(_carry_out(objects, text), "done"))
        result: dict[str, Any] = {
            "run": objects.found.description.run,
            "volume": objects.volume,
            "class": objects.class_name,
            "edits": done,
            "lost": [str(edit) for edit in objects.replayed.lost],
        }
        if request.queue:
            result["queue"] = _queue(objects, request.most)
        sentence = objects.replayed.sentence()
    print_result(result, as_json=as_json, print_text=lambda: _print(result, sentence))


def _check(text: str) -> None:
    if not any(pattern.fullmatch(text.strip()) for pattern in (_ONE, _MERGE, _SPLIT)):
        raise SettingsError(
            f"'{text}' is no edit of objects: write 'good 3', 'delete 3', 'merge 3 7', 'redraw 3' "
            "or 'split 3 Z,Y,X Z,Y,X'."
        )


def _carry_out(objects: Proofreading, text: str) -> ObjectEdit:
    if match := _MERGE.fullmatch(text.strip()):
        return objects.merge(int(match[1]), int(match[2]))
    if match := _SPLIT.fullmatch(text.strip()):
        numbers = [int(group) for group in match.groups()]
        return objects.split(numbers[0], [numbers[1:4], numbers[4:7]])
    match = _ONE.fullmatch(text.strip())
    assert match is not None
    number = int(match[2])
    if match[1] == "good":
        return objects.good(number)
    if match[1] == "delete":
        return objects.delete(number)
    return objects.redraw(number)[0]


def _values(edit: ObjectEdit, word: str) -> dict[str, Any]:
    return {"id": edit.id, "kind": edit.kind, "objects": list(edit.ids), "state": word}


def _queue(objects: Proofreading, most: int) -> list[dict[str, Any]]:
    """The most suspicious objects that were not decided on."""
    queue = objects.queue()
    rows = np.argsort(-queue["score"].astype(float), kind="stable")[:most]
    return [
        {
            "id": int(queue["id"][row]),
            "score": round(float(queue["score"][row]), 4),
            "twin": int(queue["twin"][row]),
            "reason": str(queue["reason"][row]),
        }
        for row in rows.tolist()
    ]


def _print(result: dict[str, Any], sentence: str) -> None:
    for edit in result["edits"]:
        numbers = " and ".join(map(str, edit["objects"]))
        echo(f"{edit['kind']} of object {numbers}: {edit['state']}.")
    if sentence:
        echo(sentence)
    if "queue" in result:
        rows = [[str(row["id"]), f"{row['score']:.2f}", row["reason"]] for row in result["queue"]]
        title = f"Suspicious objects of {result['class']} in {result['volume']}, {result['run']}"
        print_table(title, ["object", "score", "reason"], rows)
