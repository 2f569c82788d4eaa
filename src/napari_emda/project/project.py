"""The project: a folder of plain files, the only thing that changes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

from filelock import FileLock, SoftFileLock, Timeout

from napari_emda.data.names import is_utf8
from napari_emda.errors import JobError
from napari_emda.io.atomic import make_folder
from napari_emda.io.leftovers import clear_leftovers
from napari_emda.io.safe_files import inside, refuse_hard_link
from napari_emda.io.write import check_destination
from napari_emda.project.annotation_arrays import AnnotationArrays
from napari_emda.project.annotations import Annotations
from napari_emda.project.backups import Backups
from napari_emda.project.check_points import CheckPoints
from napari_emda.project.destination import refuse_own
from napari_emda.project.file import (
    ProjectFile,
    check_classes,
    read_project_file,
    write_project_file,
)
from napari_emda.project.history import History
from napari_emda.project.object_edits import ObjectEdits
from napari_emda.project.predictions import Predictions
from napari_emda.project.regions import Regions
from napari_emda.project.run_folder import RUNS, RunFolder
from napari_emda.project.runs import Runs
from napari_emda.project.volumes import Volumes
from napari_emda.registry import did_you_mean
from napari_emda.settings.requirements import Available

# What may be in a project's folder besides ``project.json`` and is written by this program.
_ENTRIES = (
    *("volumes", "annotations", "runs", "jobs", "undo", "backups", "rescued"),
    *("regions.jsonl", "undo.jsonl", "redo.jsonl", "object_edits.jsonl", "check_points.jsonl"),
    *("on-view.txt", "unpacked.json", ".lock"),
)


def _is_soft(lock: FileLock) -> bool:
    """Whether a file alone stands for the lock, as on some network disks."""
    return isinstance(lock, SoftFileLock)


class OpenElsewhere(JobError):
    """Another program, or another window, has the project open."""


class Project:
    """A project's folder, and what is in it. All is on disk after every call.

    Open it with `create` or `open`, best in a ``with`` block. While it is open with ``exclusive``,
    it cannot be opened with ``exclusive`` again, by this process or another one. The lock ends with
    the process that holds it.

    Attributes:
        folder: path of the folder.
        classes: names of the classes, background first.
        volumes: images with their labels.
        runs: trainings with their models.
        regions: patches that were suggested, drawn or annotated.
        predictions: of the runs, for the volumes.
        annotations: what was painted in the volumes.
        history: takes decisions back, and repeats them.
        object_edits: decisions on objects.
        check_points: points that were drawn and answered, to measure and calibrate predictions.
        backups: of annotations and regions.
    """

    def __init__(self, folder: Path, file: ProjectFile, lock: FileLock | None) -> None:
        self._lock = lock
        self.folder = folder
        self.classes = file.classes
        arrays = AnnotationArrays(folder)
        self.volumes = Volumes(folder, file, arrays)
        self.runs = Runs(folder)
        self.regions = Regions(folder)
        self.predictions = Predictions(folder, file.classes, self.runs, self.regions.decisions)
        self.history = History(folder, self.regions, arrays)
        self.object_edits = ObjectEdits(folder)
        self.backups = Backups(folder)
        self.annotations = Annotations(
            folder, arrays, file.classes, self.volumes, self.regions, self.predictions
        )
        self.check_points = CheckPoints(folder, self.regions, self.annotations)

    @classmethod
    def create(
        cls, folder: str | Path, classes: tuple[str, ...] = ("background", "foreground")
    ) -> Self:
        """Make a new project folder, opened exclusively.

        Raises:
            JobError: there is something in the folder already, it cannot be written, or the
                classes are fewer than two or not distinct.
        """
        folder = _readable(folder)
        _check_free(folder)
        check_classes(classes)
        try:
            make_folder(folder)
            file = ProjectFile(classes=classes)
            # Before the file: from then on the folder can be opened.
            project = cls(folder, file, lock_folder(folder))
            try:
                # Another process may have made a project since.
                _check_free(folder)
                project.runs.remove_imports()
                write_project_file(folder, file)
            except BaseException:
                project.close()
                raise
        except OSError as error:
            raise JobError(
                f"The project folder '{folder}' cannot be written ({error.strerror}): choose "
                "another."
            ) from None
        return project

    @classmethod
    def open(cls, folder: str | Path, *, exclusive: bool = False) -> Self:
        """Open a project folder.

        Raises:
            JobError: it is not a project, is newer than this program, or is open elsewhere.
        """
        folder = _readable(folder)
        path = inside(folder, "project.json")
        # Here, so that the user hears of a link before any work is done; every access checks again.
        for name in _ENTRIES:
            inside(folder, name)
        if not path.is_file():
            raise JobError(
                f"'{folder}' is not a project (it has no project.json): choose the folder of a "
                "project, or make one from your images."
            )
        lock = lock_folder(folder) if exclusive else None
        # What was being restored from a backup when the computer stopped gets its name back.
        if exclusive:
            clear_leftovers(folder / "annotations")
        try:
            return cls(folder, read_project_file(path), lock)
        except BaseException:
            # Also when the user interrupts: a project that did not open must not stay locked.
            if lock is not None:
                lock.release()
            raise

    def close(self) -> None:
        """Release the lock."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def claim(self, path: Path | str, suffixes: Sequence[str], *, overwrite: bool) -> Path:
        """Check that a result can be written to a path; see `io.write.check_destination`.

        Raises:
            DataError: it cannot, or something of the project would be replaced.
        """
        # First: nobody should be told to overwrite what must not be.
        refuse_own(Path(path), self.folder, self.volumes.files())
        return check_destination(path, suffixes, overwrite)

    def run(self, name: str | None = None) -> RunFolder:
        """The folder of a run with a model; JobError if there is none.

        Args:
            name: of the run; by default that of `Runs.latest`.
        """
        if name is not None and self.runs.has(name):
            return RunFolder.of(self.folder, name)
        runs = self.runs.names()
        if not runs:
            raise JobError("The project has no trained model yet: train one first.")
        if name is not None and name not in runs:
            raise JobError(f"There is no run '{name}' with a model. {did_you_mean(name, runs)}")
        return RunFolder.of(self.folder, name or self.runs.latest() or runs[-1])

    @property
    def available(self) -> Available:
        """What the project has that methods and strategies may need."""
        domains = {entry.domain for entry in self.volumes.entries}
        annotated = self.regions.any_annotated()
        return Available(
            domains=domains,
            labelled="source" in domains or annotated,
            annotated=annotated,
            run=self.runs.latest() or "",
        )


def _readable(folder: str | Path) -> Path:
    """The whole path of a folder; JobError if it could not be written into a job file."""
    path = Path(folder).expanduser().absolute()
    if not is_utf8(str(path)):
        raise JobError(
            f"The path '{path}' holds characters that are no UTF-8: rename the folder, or choose "
            "another one."
        )
    return path


def _check_free(folder: Path) -> None:
    """JobError if a project cannot be made in a folder, which need not exist."""
    if folder.exists() and not _is_free(folder):
        raise JobError(f"'{folder}' exists and is not empty: choose a new folder for the project.")


def _is_free(folder: Path) -> bool:
    """Whether a folder is empty, or holds no more than the beginning of a project.

    A program that was killed while it made a project leaves a lock and a ``project.json`` without
    volumes, or the partial file of one, and perhaps the model that the project starts from.
    """
    if not folder.is_dir():
        return False
    names = {path.name for path in folder.iterdir()} - {".lock"}
    names -= {name for name in names if name.startswith(".project-") and name.endswith(".json")}
    if not names:
        return True
    if "project.json" not in names or not names <= {"project.json", RUNS}:
        return False
    try:
        volumes = read_project_file(inside(folder, "project.json")).volumes
        return not volumes and Runs(folder).are_imports()
    except JobError:
        return False


def lock_folder(folder: Path) -> FileLock:
    """Lock a project's folder; release the lock in the end.

    Raises:
        JobError: it is open elsewhere, or cannot be written.
    """
    # Waiting is pointless: another window keeps the lock until it is closed.
    path = folder / ".lock"
    refuse_hard_link(path)
    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        # On a disk that knows no locks, a file stands for one, and any file of this name does.
        rest = f", or delete '{path}' if nobody has it open" if _is_soft(lock) else " first"
        text = f"The project '{folder}' is open elsewhere: close it there{rest}."
        raise OpenElsewhere(text) from None
    except OSError as error:
        raise JobError(
            f"The project '{folder}' cannot be written ({error.strerror}): copy it to a folder "
            "that can."
        ) from None
    return lock
