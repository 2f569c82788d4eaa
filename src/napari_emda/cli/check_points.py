"""The command of check points: draw them, answer them, and see what they say of a prediction."""

from __future__ import annotations

import csv
import io
from collections.abc import Generator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from napari_emda.active_learning.check_points import CheckedPrediction, answer, draw_points
from napari_emda.active_learning.point_report import Report, report, use
from napari_emda.cli.console import (
    JsonOption,
    ProjectArgument,
    RunOption,
    VolumeOption,
    carry_out,
    echo,
    print_result,
    print_table,
)
from napari_emda.cli.label_options import BackgroundOption, IgnoreOption, label_meaning
from napari_emda.cli.progress import watch
from napari_emda.data.label_meaning import LabelMeaning, MeantLabels
from napari_emda.errors import DataError, SettingsError
from napari_emda.events import Event, Finished, Started
from napari_emda.io.checks import check_labels
from napari_emda.io.read import open_labels
from napari_emda.io.safe_files import read_file
from napari_emda.project.check_points import (
    CANNOT_TELL,
    MOST_POINTS,
    Answers,
    AskedPoint,
    Step,
    in_words,
)
from napari_emda.project.job_files import PredictJob
from napari_emda.project.project import Project
from napari_emda.project.stored_prediction import StoredPrediction
from napari_emda.registry import did_you_mean

# In a file of answers, that nobody can tell.
_UNSURE = ("?", "", "cannot tell")


def check_points(
    project: ProjectArgument,
    draw: Annotated[
        int | None, typer.Option(min=1, max=MOST_POINTS, help="Draw this many points more.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the draw.")] = 0,
    answers: Annotated[
        Path | None,
        typer.Option(
            help="Table with the columns point and class (CSV): the class's name or number, 0 "
            "being background, or ? for 'cannot tell'."
        ),
    ] = None,
    truth: Annotated[
        Path | None,
        typer.Option(help="Label image that answers all open points, 0 = background."),
    ] = None,
    background: BackgroundOption = None,
    ignore: IgnoreOption = None,
    show_report: Annotated[
        bool, typer.Option("--report", help="Say what the points tell; the default without others.")
    ] = False,
    use_it: Annotated[
        bool, typer.Option("--use", help="Calibrate the prediction, from 50 answers on.")
    ] = False,
    undo: Annotated[
        bool, typer.Option("--undo", help="Take the latest answers or calibration back.")
    ] = False,
    run: RunOption = None,
    volume: VolumeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure and calibrate a prediction by random points.

    What is asked for is done in this order: --undo, --draw, --answers, --truth, --use.
    """
    # An error in the options changes nothing.
    meaning = label_meaning(background, ignore, "background")
    table = None if answers is None else _read_table(answers)
    changes = undo or use_it or draw is not None or table is not None or truth is not None
    with Project.open(project, exclusive=changes) as opened:
        name = volume or opened.volumes.target().name
        _ensure_predicted(project, opened, run, name, draw)
        checked = CheckedPrediction.of(opened, run, name)
        result: dict[str, Any] = {"run": checked.run.name, "volume": name}
        if undo:
            _, points = checked.asked(opened)
            result["undone"] = _undone(opened.check_points.undo(checked.run.name, name), points)
        if draw is not None:
            steps = draw_points(opened, checked, draw, seed)
            watch(_watched(opened, steps, checked.run.name))
        _, points = checked.asked(opened)
        classes = opened.classes
        if table is not None:
            answer(opened, points, _answers_in(table, answers, classes), "file")
            _, points = checked.asked(opened)
        if truth is not None:
            answer(opened, points, _answers_by(truth, checked, meaning, points), "labels")
            _, points = checked.asked(opened)
        found = use(opened, checked) if use_it else report(opened, checked)
    result["points"] = [_values(number, p, classes) for number, p in enumerate(points, start=1)]
    result["report"] = found.values()
    list_open = draw is not None and table is None and truth is None
    print_result(
        result,
        as_json=as_json,
        print_text=lambda: _print(
            result, found, list_open=list_open, says=show_report or not list_open
        ),
    )


def _ensure_predicted(
    folder: Path, project: Project, run: str | None, volume: str, draw: int | None
) -> None:
    """Predict a volume that points are to be drawn from, if it is not predicted completely."""
    if draw is None:
        return
    chosen = project.run(run or project.predictions.newest_run(volume)).name
    if not StoredPrediction(project.run(chosen), volume).complete({}):
        carry_out(PredictJob(project=str(folder), run=chosen, volume=volume))


def _watched(project: Project, steps: Generator[Any, None, Any], run: str) -> Generator[Event]:
    """The events of a draw, which is recorded at its end."""
    yield Started("check-points", run, "cpu", 0)
    drawn = yield from steps
    project.check_points.add(drawn)
    yield Finished("done", f"{len(drawn.points)} points are drawn.", {})


def _undone(step: Step | None, points: list[AskedPoint]) -> str:
    if step is None:
        return ""
    return in_words(points, step) if isinstance(step, Answers) else "the calibration"


def _read_table(path: Path) -> list[dict[str, str]]:
    """The rows of a table of answers; DataError if it is none."""
    try:
        text = read_file(path).decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"'{path}' cannot be read ({error.strerror}): check its name.") from None
    except UnicodeDecodeError:
        raise DataError(f"'{path}' is no text in UTF-8: save it as CSV again.") from None
    reader = csv.DictReader(io.StringIO(text))
    if reader.fieldnames is None or not {"point", "class"} <= set(reader.fieldnames):
        raise DataError(
            f"'{path}' has no columns 'point' and 'class': name them in its first line."
        )
    return [{key: row[key] or "" for key in ("point", "class")} for row in reader]


def _answers_in(
    rows: list[dict[str, str]], path: Path | None, classes: tuple[str, ...]
) -> dict[int, int]:
    """Class by number of the point; SettingsError names the line that cannot be read."""
    found: dict[int, int] = {}
    for line, row in enumerate(rows, start=2):
        where = f"Line {line} of '{path}'"
        point = row["point"].strip()
        # Longer ones are no number of a point, and Python refuses those of thousands of digits.
        if not point.isdecimal() or len(point) > 9:
            raise SettingsError(f"{where} has no number of a point: write 1 for the first.")
        if int(point) in found:
            raise SettingsError(f"{where} answers point {point} again: give each point once.")
        found[int(point)] = _class_id(row["class"].strip(), where, classes)
    return found


def _class_id(text: str, where: str, classes: tuple[str, ...]) -> int:
    if text in classes:
        return classes.index(text)
    if text.casefold() in _UNSURE:
        return CANNOT_TELL
    if text.isdecimal() and len(text) < 4 and int(text) < len(classes):
        return int(text)
    raise SettingsError(f"{where} has no class '{text}'. {did_you_mean(text, classes)}")


def _answers_by(
    truth: Path, checked: CheckedPrediction, meaning: LabelMeaning, points: list[AskedPoint]
) -> dict[int, int]:
    """What a label image says of the open points; where it has no label, nobody can tell."""
    stored = open_labels(truth).array
    classes = len(checked.prediction.outputs.classes)
    shape = checked.prediction.stored.shape[1:]
    check_labels(
        checked.volume, stored, shape, classes, meaning=meaning, one_class=meaning.is_partial
    )
    labels = MeantLabels(stored, meaning, classes)
    found = {}
    for number, point in enumerate(points, start=1):
        if point.answer is None:
            z, y, x = point.voxel
            value = int(np.asarray(labels[z : z + 1, y : y + 1, x : x + 1]).item())
            found[number] = value - 1 if value else CANNOT_TELL
    return found


def _values(number: int, point: AskedPoint, classes: tuple[str, ...]) -> dict[str, Any]:
    z, y, x = point.voxel
    is_answered = point.answer is not None and point.answer != CANNOT_TELL
    name = classes[point.answer] if is_answered and point.answer is not None else None
    state = "open" if point.answer is None else "answered" if is_answered else "cannot tell"
    return {"point": number, "z": z, "y": y, "x": x, "state": state, "class": name}


def _print(result: dict[str, Any], found: Report, *, list_open: bool, says: bool) -> None:
    if "undone" in result:
        undone = result["undone"]
        echo(f"Taken back: {undone}." if undone else "There is nothing to take back.")
    if list_open:
        rows = [
            [str(point[key]) for key in ("point", "z", "y", "x")]
            for point in result["points"]
            if point["state"] == "open"
        ]
        print_table(f"Points of {result['volume']}", ["point", "z", "y", "x"], rows)
    if not says:
        return
    words = f"{found.answered} of {found.drawn} points answered, run {result['run']}"
    echo(f"{words}, {'calibrated' if found.in_use else 'not calibrated'}.")
    for text in found.sentences():
        echo(text)
