"""What the panels of one dock share: viewer, project, running job, and messages."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from napari.components import ViewerModel
from napari.layers import Layer
from psygnal import Signal

from napari_emda._gui.open_project import MaskSettings, OpenProject
from napari_emda._gui.process.catalogue import Catalogue
from napari_emda._gui.process.runner import COMMAND, Runner, in_background
from napari_emda.errors import EmdaError
from napari_emda.events import Failed, Finished, Notice
from napari_emda.project.job_files import Job
from napari_emda.project.project import Project


def in_short(text: object) -> str:
    """A path, or a sentence with paths in it, with ~ for the home folder."""
    return str(text).replace(str(Path.home()) + os.sep, "~" + os.sep)


def tone_of(last: Finished | Failed) -> str:
    """The tone of a job's end: ``error``, ``hint`` when not all is well, or ``done``."""
    if isinstance(last, Failed):
        return "error"
    return "hint" if last.result.get("warnings") or last.result.get("helped") is False else "done"


class Session:
    """What the panels of one dock share. Only the main thread uses it.

    Args:
        viewer: shows the layers.
        command: what jobs are started with; ``{job}`` stands for the job file.

    Attributes:
        opened: the project and its layers, None while none is open; there is one per viewer.
        mask: what masks are made with.
    """

    said = Signal(str, str)
    """Something to show in the dock: the text, and ``note``, ``hint``, ``done`` or ``error``."""
    moved_on = Signal()
    """The user does the next thing: a note on the last one is of no more use."""
    project_opened = Signal(OpenProject)
    """A project was opened; comes before `project_changed`."""
    project_changed = Signal()
    """Another project, or another set of volumes, runs or annotations."""
    catalogue_changed = Signal(Catalogue)
    """Methods and strategies were read."""
    closing = Signal()
    """The dock goes away: put everything on disk."""

    def __init__(self, viewer: ViewerModel, command: Sequence[str] = COMMAND) -> None:
        self.viewer = viewer
        self.opened: OpenProject | None = None
        self.catalogue: Catalogue | None = None
        self.runner = Runner(command)
        self.mask = MaskSettings()
        self._closed = False
        self.runner.happened.connect(self._on_event)
        self.runner.ended.connect(self._on_ended)
        viewer.layers.events.removed.connect(self._on_layer_removed)

    # -- what is said ------------------------------------------------------------------------

    def say(self, text: str, kind: str = "note") -> None:
        """Show one sentence in the dock; the home folder is written as ~."""
        self.said.emit(in_short(text), kind)

    @contextlib.contextmanager
    def telling(self) -> Iterator[None]:
        """Within it, a mistake is shown in the dock."""
        try:
            yield
        except EmdaError as error:
            self.say(str(error), "error")
        except OSError as error:
            what = f"'{error.filename}' " if error.filename else ""
            self.say(
                f"The disk refused: {what}({error.strerror}); free some space or choose another "
                "folder.",
                "error",
            )

    def _on_event(self, event: Any) -> None:
        if isinstance(event, Notice):
            self.say(event.text)

    def _on_ended(self, last: Finished | Failed) -> None:
        self.say(last.text, tone_of(last))
        self.project_changed.emit()

    def set_catalogue(self, catalogue: Catalogue) -> None:
        """Take the methods and strategies."""
        if not self._closed:
            self.catalogue = catalogue
            self.catalogue_changed.emit(catalogue)

    # -- jobs --------------------------------------------------------------------------------

    def start(self, job: Job) -> None:
        """Start a job, or say why not."""
        if self.runner.busy:
            self.say(self.runner.busy, "error")
            return
        with self.telling():
            self.runner.start(job)

    def in_background(
        self, work: Callable[[], Any], done: Callable[[Any], None], failed: Callable[[str], None]
    ) -> None:
        """Work in a worker thread.

        ``done`` or ``failed`` is called in the main thread, unless the dock is gone.
        """
        in_background(
            work,
            lambda value: None if self._closed else done(value),
            lambda text: None if self._closed else failed(text),
        )

    # -- the project -------------------------------------------------------------------------

    def adopt(self, project: Project, layers: Mapping[str, Layer] | None = None) -> None:
        """Take a project, closing the one before; ``layers`` already show some of its volumes."""
        if self.opened is not None and self.opened.project is not project:
            self.opened.remove_outputs()
            self.opened.project.close()
        self.opened = opened = OpenProject(self.viewer, project, self.mask)
        for entry in project.volumes.entries:
            with self.telling():
                opened.show_volume(entry, (layers or {}).get(entry.name))
        self.project_opened.emit(opened)
        self.project_changed.emit()

    def is_output(self, layer: Layer) -> bool:
        """Whether a layer is one of ours rather than the user's."""
        return self.opened is not None and self.opened.is_output(layer)

    def _on_layer_removed(self, event: Any) -> None:
        layer = event.value
        if self.opened is None or not self.opened.forget(layer):
            return
        job = self.runner.job
        if job is not None:
            self.say(
                f"The layer '{layer.name}' was removed; the {job.noun} goes on, since it works on "
                "the files of the project."
            )

    # -- the end -----------------------------------------------------------------------------

    def close(self) -> None:
        """End the child and give the project back; safe to call more than once."""
        if self._closed:
            return
        self.closing.emit()
        self._closed = True
        # The viewer's layers may be gone already when its window closes.
        with contextlib.suppress(ValueError, RuntimeError):
            self.viewer.layers.events.removed.disconnect(self._on_layer_removed)
        self.runner.close()
        if self.opened is not None:
            self.opened.project.close()
            self.opened = None

    @property
    def closed(self) -> bool:
        """Whether the dock is gone."""
        return self._closed
