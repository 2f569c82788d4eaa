"""Damage in the files that hold a decision per line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from napari_emda.errors import JobError
from napari_emda.io.atomic import replacing_file
from napari_emda.io.journal import read_journal, sealed
from napari_emda.io.safe_files import inside
from napari_emda.project import check_points
from napari_emda.project.backups import Backups
from napari_emda.project.checking.damage import Damage, Finding, Reading, Rescue
from napari_emda.project.object_edits import JOURNAL, parse_entry
from napari_emda.project.region import Region
from napari_emda.project.undo import parse

# Each with what reads a line of it, what a line is, and what is lost without the file.
_JOURNALS: tuple[tuple[str, Callable[[bytes], object], str, str], ...] = (
    ("regions.jsonl", Region.model_validate_json, "decisions on patches", "the list of patches"),
    ("undo.jsonl", parse, "steps of Undo", "what could be undone"),
    ("redo.jsonl", parse, "steps of Redo", "what could be repeated"),
    (JOURNAL, parse_entry, "edits of objects", "the list of edits of objects"),
    (
        check_points.JOURNAL,
        check_points.parse_entry,
        "check points and answers",
        "the list of check points",
    ),
)


def damaged_journals(project: Path) -> Iterator[Finding]:
    """Damaged lines of the journals of a project, and journals that cannot be read at all."""
    for name, read, what, all_of_it in _JOURNALS:
        path = inside(project, name)
        if not path.exists():
            continue
        yield Reading(name)
        try:
            lines = read_journal(path)
        except OSError as error:
            yield Damage(
                name, f"'{name}' cannot be read ({error.strerror})", "check its permissions"
            )
            continue
        except JobError as error:
            remedy = "it can be put aside, and a backup put in its place"
            yield Damage(
                name, _without_end(error), remedy, partial(_replace, project, name, all_of_it)
            )
            continue
        good = [line.text for line in lines if line.text is not None and _is_good(read, line.text)]
        # An empty line is left where a version without checksums has ended a broken one.
        bad = sum(bool(line.text is None or line.text.strip()) for line in lines) - len(good)
        if bad:
            yield Damage(
                name,
                f"{bad} of {len(lines)} {what} in '{name}' cannot be read",
                "the others can be kept without them",
                partial(_keep_lines, project, name, good, f"{bad} {what} are lost"),
            )


def _is_good(read: Callable[[bytes], object], text: bytes) -> bool:
    try:
        read(text)
    # Whatever a reader makes of nonsense: nested too deep, numbers of thousands of digits.
    except (ValueError, RecursionError):
        return False
    return True


def _keep_lines(project: Path, name: str, good: list[bytes], lost: str, rescue: Rescue) -> str:
    rescue.copy(name)
    missing: list[bytes] = []
    if name == "regions.jsonl":
        missing = _missing_regions(project, good)
    with replacing_file(inside(project, name)) as partial_file:
        partial_file.write_bytes(b"".join(sealed(text.decode()) for text in (*missing, *good)))
    found = f", {len(missing)} of them were found in a backup" if missing else ""
    return f"'{name}' was written anew with its {len(good)} whole lines; {lost}{found}."


def _missing_regions(project: Path, good: list[bytes]) -> list[bytes]:
    """The lines of patches in the newest backup of which nothing else is left."""
    backup = Backups(project).regions_file()
    if backup is None:
        return []
    identifiers = {Region.model_validate_json(text).id for text in good}
    texts = [line for line in backup[1] if _is_good(Region.model_validate_json, line)]
    return [text for text in texts if Region.model_validate_json(text).id not in identifiers]


def _replace(project: Path, name: str, lost: str, rescue: Rescue) -> str:
    rescue.take(name)
    if name == "regions.jsonl":
        missing = _missing_regions(project, [])
        if missing:
            with replacing_file(inside(project, name)) as partial_file:
                partial_file.write_bytes(b"".join(sealed(text.decode()) for text in missing))
            return f"'{name}' was replaced by that of the newest backup; later decisions are lost."
    return f"'{name}' was put aside; {lost} is lost."


def _without_end(error: JobError) -> str:
    """The problem in a message, without its remedy."""
    return str(error).rpartition(":")[0] or str(error).rstrip(".")
