"""All that can be wrong in a project's folder, and the repair of what can be repaired."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from napari_emda.data.array import Array
from napari_emda.data.blocks import strips
from napari_emda.data.box import Box
from napari_emda.errors import EmdaError, JobError, explained
from napari_emda.io.atomic import replacing_file
from napari_emda.io.read import open_image, open_labels
from napari_emda.io.safe_files import inside
from napari_emda.project.annotation_arrays import AnnotationArrays
from napari_emda.project.backups import Backups
from napari_emda.project.checking.annotations import damaged_annotations
from napari_emda.project.checking.damage import RESCUED, Damage, Finding, Reading, Rescue
from napari_emda.project.checking.journals import damaged_journals
from napari_emda.project.checking.runs import damaged_runs
from napari_emda.project.file import ProjectFile, read_project_file
from napari_emda.project.project import lock_folder
from napari_emda.project.volumes import Volumes

# Without any of these, a folder is none of a project, and nothing in it is touched.
_SIGNS = ("project.json", "regions.jsonl", "annotations", "runs")


# Bytes of a file that are read at once to see whether it can be read.
_AT_ONCE = 2**20


@dataclass(frozen=True)
class Checked:
    """A damage, and what was done about it.

    Attributes:
        damage: that was found.
        outcome: what was done and what is lost, in a sentence; empty if nothing was done.
        mended: whether nothing of it is left.
    """

    damage: Damage
    outcome: str = ""
    mended: bool = False

    def __str__(self) -> str:
        return self.outcome or str(self.damage)


def check(folder: Path, *, images: bool = True) -> Iterator[Finding]:
    """Read everything in a project's folder; nothing is changed.

    Args:
        folder: of the project.
        images: whether to read all voxels of the images, too, which may take hours.

    Yields:
        Reading before each part, Damage for all that is wrong. What the caller mends before it asks
        for the next one is found mended.

    Raises:
        JobError: this is no project, or one of a newer version.
    """
    folder = folder.expanduser().absolute()
    if not is_project(folder):
        raise _no_project(folder)
    for finding in _findings(folder, images=images):
        yield _unless_refused(folder, finding)


def _findings(folder: Path, *, images: bool) -> Iterator[Finding]:
    yield from _links(folder)
    yield from _project_file(folder)
    file = _file_of(folder)
    shapes: dict[str, tuple[int, ...]] = {}
    if file is not None:
        volumes = Volumes(folder, file, AnnotationArrays(folder))
        yield from _volumes(volumes, shapes, all_voxels=images)
    parts = {
        "regions.jsonl": damaged_journals(folder),
        "annotations": damaged_annotations(folder, shapes, len(file.classes) if file else 0),
        "runs": damaged_runs(folder),
    }
    for place, findings in parts.items():
        yield from _to_its_end(place, findings)


def repair(folder: Path, *, images: bool = True) -> Generator[Reading | Checked, None, Path | None]:
    """Check a project, and mend what can be mended; annotations first.

    Yields:
        Reading before each part, Checked for all that was wrong.

    Returns:
        The folder of all that was replaced; None if nothing was.

    Raises:
        JobError: this is no project, or it is open elsewhere.
    """
    folder = folder.expanduser().absolute()
    if not is_project(folder):
        raise _no_project(folder)
    done = []
    lock = lock_folder(folder)
    try:
        rescue = Rescue(folder)
        for finding in check(folder, images=images):
            if isinstance(finding, Reading):
                yield finding
                continue
            checked = _mended(finding, rescue)
            done.append(f"{finding.place}: {checked}")
            yield checked
        rescue.write_report(done)
    finally:
        lock.release()
    return rescue.folder if rescue.used else None


def _mended(damage: Damage, rescue: Rescue) -> Checked:
    if damage.mend is None:
        return Checked(damage)
    try:
        return Checked(damage, damage.mend(rescue), mended=True)
    # One thing that cannot be mended, as on a full disk, keeps nothing else from being mended.
    except (EmdaError, OSError) as error:
        return Checked(damage, f"{damage.problem}, and could not be mended. {explained(error)}")


def _unless_refused(project: Path, finding: Finding) -> Finding:
    """The finding; if the system does not let the file be read, nothing of it is to be mended."""
    if isinstance(finding, Reading) or finding.mend is None:
        return finding
    reason = _refused(project / finding.place)
    if not reason:
        return finding
    problem = f"'{finding.place}' cannot be read ({reason})"
    return Damage(finding.place, problem, "check its permissions and its disk")


def _refused(path: Path) -> str:
    """Why the system does not let a file, or all files in a folder, be read; empty if it does."""
    paths = [path]
    if path.is_dir() and not path.is_symlink():
        paths = [Path(where, name) for where, _, files in os.walk(path) for name in files]
    for path in paths:
        try:
            if not stat.S_ISREG(path.lstat().st_mode):
                continue  # a link, or something that would keep the program waiting
            with path.open("rb") as file:
                while file.read(_AT_ONCE):
                    pass
        except FileNotFoundError:
            continue
        except OSError as error:
            return error.strerror or str(error)
    return ""


def _to_its_end(place: str, findings: Iterator[Finding]) -> Iterator[Finding]:
    """The findings in a part of the project, up to what keeps it from being read at all."""
    try:
        yield from findings
    except (EmdaError, OSError) as error:
        # A link, for example, which the caller has not mended.
        problem, _, remedy = str(explained(error)).rstrip(".").rpartition(": ")
        yield Damage(place, f"'{place}' cannot be read to its end ({problem})", remedy)


def is_project(folder: Path) -> bool:
    """Whether a folder has anything in it that only projects have."""
    return any(os.path.lexists(folder / name) for name in _SIGNS)


def _no_project(folder: Path) -> JobError:
    return JobError(f"'{folder}' is not a project: choose the folder of a project.")


# -- links -----------------------------------------------------------------------------------------


def _links(project: Path) -> Iterator[Finding]:
    """Links and special files in the folder, which the program refuses to follow and to open."""
    yield Reading("")
    for where, folders, files in os.walk(project):
        # What was put aside is nobody's any more.
        if Path(where) == project and RESCUED in folders:
            folders.remove(RESCUED)
        for name in (*folders, *files):
            path = Path(where, name)
            names = path.relative_to(project).parts
            try:
                mode = path.lstat().st_mode
            except OSError:
                continue
            if stat.S_ISREG(mode) or stat.S_ISDIR(mode) or _is_latest(path, project):
                continue
            kind = "a link" if stat.S_ISLNK(mode) else "neither a file nor a folder"
            yield Damage(
                "/".join(names),
                f"'{'/'.join(names)}' is {kind}",
                "it can be put aside; nothing that it leads to is touched",
                partial(_put_aside, names),
            )


def _is_latest(path: Path, project: Path) -> bool:
    """Whether this is a link among the runs to one of them, as some users make them."""
    runs_folder = project / "runs"
    return path.parent == runs_folder and path.resolve().parent == runs_folder.resolve()


def _put_aside(names: tuple[str, ...], rescue: Rescue) -> str:
    rescue.take(*names)
    return f"'{'/'.join(names)}' was put aside."


# -- project.json ----------------------------------------------------------------------------------


def _project_file(project: Path) -> Iterator[Finding]:
    yield Reading("project.json")
    try:
        path = inside(project, "project.json")
    except JobError:
        return  # a link, which was reported as such
    problem = f"'{path}' is missing"
    if path.exists():
        try:
            read_project_file(path)
            return
        except JobError as error:
            # A newer version is no damage.
            if "update napari-emda" in str(error):
                raise
            problem = str(error).rpartition(":")[0]
    copy = None
    with contextlib.suppress(JobError):
        copy = Backups(project).project_file()
    if copy is None:
        yield Damage(
            "project.json",
            problem,
            "put a copy of it back; or make a new project of the same images, and copy the folder "
            "'annotations' and 'regions.jsonl' into it",
        )
        return
    backup, content = copy
    yield Damage(
        "project.json",
        problem,
        f"it can be taken from the backup {backup.name}",
        partial(_restore_file, project, content, backup.name),
    )


def _restore_file(project: Path, content: bytes, backup: str, rescue: Rescue) -> str:
    rescue.take("project.json")
    with replacing_file(inside(project, "project.json")) as file:
        file.write_bytes(content)
    return (
        f"'project.json' was taken from the backup {backup}; volumes that were added since are "
        "lost."
    )


def _file_of(project: Path) -> ProjectFile | None:
    try:
        return read_project_file(inside(project, "project.json"))
    except JobError:
        return None


# -- volumes ---------------------------------------------------------------------------------------


def _volumes(
    volumes: Volumes, shapes: dict[str, tuple[int, ...]], *, all_voxels: bool
) -> Iterator[Finding]:
    """Images and labels that cannot be read; fills in the shapes of the images that can."""
    for entry in volumes.entries:
        for kind, file in (("image", entry.image), ("labels", entry.labels)):
            if file is None:
                continue
            yield Reading(file)
            try:
                path = volumes.path(file)
                array = (open_image if kind == "image" else open_labels)(path).array
                if all_voxels:
                    _read_all(array)
            except (EmdaError, OSError, MemoryError) as error:
                sentence = explained(error) or error
                problem, _, remedy = str(sentence).rstrip(".").rpartition(": ")
                yield Damage(
                    file,
                    f"The {kind} of '{entry.name}' cannot be read ({problem or sentence})",
                    remedy or "put the file back",
                )
                continue
            shape = tuple(array.shape)
            if kind == "image":
                shapes[entry.name] = shape
            elif entry.name in shapes and shape != shapes[entry.name]:
                yield Damage(
                    file,
                    f"The labels of '{entry.name}' have another shape than its image",
                    "put the old file back",
                )


def _read_all(array: Array) -> None:
    for part in strips(Box.whole(array.shape)):
        np.asarray(array[part.slices])
