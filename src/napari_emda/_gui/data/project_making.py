"""Creates a project from layers in the background; an error leaves no files behind. No Qt."""

from __future__ import annotations

import tempfile
import threading
from pathlib import Path

from napari.layers import Layer
from psygnal import Signal

from napari_emda._gui.data.project_setup import Pick, check, store
from napari_emda._gui.session import Session
from napari_emda.data.label_question import Question
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.errors import EmdaError
from napari_emda.io.checks import LabelsInDoubt
from napari_emda.project.file import VolumeEntry
from napari_emda.project.model_file import model_at
from napari_emda.project.model_import import check_model, import_model
from napari_emda.project.project import Project
from napari_emda.settings.requirements import SOURCE_FREE, TAUGHT


class ProjectMaking:
    """Checks layers, creates a project, stores layers that exist in memory only, and opens it.

    Args:
        session: opens the project and shows messages.
        stop: set when the dock is closed.

    Attributes:
        working: whether a project is being created.
    """

    changed = Signal()
    """Creating a project began or ended."""
    failed = Signal(str)
    """Nothing was created, for the reason that the text says."""
    asked = Signal(object)
    """A `data.label_question.Question` about the labels must be answered first."""

    def __init__(self, session: Session, stop: threading.Event) -> None:
        self._session = session
        self._stop = stop
        self._begun: Project | None = None
        self.working = False

    def start(
        self,
        picks: list[Pick],
        classes: tuple[str, ...],
        folder: Path,
        model: Path | None = None,
    ) -> None:
        """Create a project of these layers in a new folder.

        Args:
            picks: the volumes.
            classes: names, background first.
            folder: of the project.
            model: from which it starts, see `model_file.model_at`.
        """
        # First all checks, in a worker thread because they read the volumes; then the first file.
        self._set_working(True)

        def work() -> Question | None:
            try:
                check(picks, classes, self._stop)
                if model is not None:
                    _check_model(model, classes, picks[-1])
            except LabelsInDoubt as unclear:
                return unclear.question
            return None

        def done(question: Question | None) -> None:
            if question is None:
                self._make(picks, classes, folder, model)
                return
            self._set_working(False)
            self.asked.emit(question)

        self._session.in_background(work, done, self._fail)

    def take_back(self) -> None:
        """Remove a project whose creation has failed or was interrupted."""
        project = self._begun
        self._begun = None
        if project is not None:
            project.close()
            # Only the two files that `Project.create` writes: the folder may hold the user's files.
            for name in ("project.json", ".lock"):
                (project.folder / name).unlink(missing_ok=True)

    def _make(
        self, picks: list[Pick], classes: tuple[str, ...], folder: Path, model: Path | None
    ) -> None:
        try:
            project = self._begun = Project.create(folder, classes)
        except EmdaError as error:
            self._fail(str(error))
            return
        self._session.in_background(
            lambda: store(project, picks, self._stop),
            lambda entries: self._add(project, entries, picks, model),
            self._fail,
        )

    def _add(
        self,
        project: Project,
        entries: list[VolumeEntry],
        picks: list[Pick],
        model: Path | None,
    ) -> None:
        # In the main thread, because the project is used there only.
        with project.volumes.added_together():
            for entry in entries:
                project.volumes.add_entry(entry)
        if model is None:
            self._finish(project, entries, picks, "Next: train.")
            return

        def imported() -> str:
            # Copying a large model takes a while. Nobody else knows the project yet.
            with model_at(model, project.folder / "model") as file:
                method = TAUGHT if file.model.is_fixed else SOURCE_FREE
                remark = import_model(project, file)[1]
            return f"{remark} Next: suggest patches, predict, or train {method}."

        def done(text: str) -> None:
            self._finish(project, entries, picks, text)

        self._session.in_background(imported, done, self._fail)

    def _finish(
        self, project: Project, entries: list[VolumeEntry], picks: list[Pick], text: str
    ) -> None:
        self._begun = None
        self._set_working(False)
        layers: dict[str, Layer] = {
            entry.name: pick.image for entry, pick in zip(entries, picks, strict=True)
        }
        labels: dict[str, Layer] = {
            entry.name: pick.labels
            for entry, pick in zip(entries, picks, strict=True)
            if pick.labels is not None
        }
        self._session.adopt(project, layers, labels)
        self._session.say(f"The project was created in {project.folder}. {text}", "done")

    def _fail(self, text: str) -> None:
        self.take_back()
        self._set_working(False)
        self.failed.emit(text)

    def _set_working(self, working: bool) -> None:
        self.working = working
        self.changed.emit()


def _check_model(path: Path, classes: tuple[str, ...], target: Pick) -> None:
    """EmdaError if a model cannot be used for a target, before anything is created."""
    assert target.spacing is not None
    with tempfile.TemporaryDirectory() as temporary, model_at(path, Path(temporary) / "a") as file:
        size = VoxelGrid(target.spacing).pixel_size
        check_model(file.model, classes, size, target.image.name)
