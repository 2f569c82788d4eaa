"""State that the panels of a dock share: viewer, project, running job, and messages."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from napari.components import ViewerModel
from napari.layers import Layer
from psygnal import Signal

from napari_emda._gui.common.adapters import reslice, section_of
from napari_emda._gui.common.canvas import InsertionGuard, RemovalGuard
from napari_emda._gui.common.copies import protect
from napari_emda._gui.common.mask_settings import MaskSettings
from napari_emda._gui.common.permanent_objects import PermanentObjects
from napari_emda._gui.common.sliders import SliderRange
from napari_emda._gui.common.turns import Turns
from napari_emda._gui.open_project import OpenProject
from napari_emda._gui.process.catalogue import Catalogue
from napari_emda._gui.process.runner import COMMAND, Ending, Runner, in_background
from napari_emda.data.names import in_one_line
from napari_emda.errors import explained
from napari_emda.events import Failed, Finished, Notice
from napari_emda.io import error_log
from napari_emda.project.job_files import Job
from napari_emda.project.project import Project
from napari_emda.settings.where import Where


def in_short(text: object) -> str:
    """Write the home folder as ~, in a path or in a sentence that contains paths."""
    return str(text).replace(str(Path.home()) + os.sep, "~" + os.sep)


def tone_of(last: Finished | Failed) -> str:
    """The tone of a job's end: ``error``, ``hint`` if there are warnings, or ``done``."""
    if isinstance(last, Failed):
        return "error"
    # `helped` is False if adaptation was worse than none; it is missing if nothing was compared.
    return "hint" if last.result.get("warnings") or last.result.get("helped") is False else "done"


class Session:
    """State that the panels of a dock share. Use it in the main thread only.

    Args:
        viewer: shows the layers.
        command: starts a job; ``{job}`` stands for the job file.

    Attributes:
        opened: the project and its layers, None while no project is open; there is one per viewer.
        catalogue: methods, strategies, networks and exports; None until they are read.
        runner: of the jobs.
        mask: settings of masks.
        permanent: what Python need not look at when it collects garbage.
        where: the processes in which jobs predict.
    """

    said = Signal(str, str)
    """A text to show in the dock, and its tone: ``note``, ``hint``, ``done`` or ``error``."""
    withdrawn = Signal(str)
    """A text that was shown is no longer true."""
    moved_on = Signal()
    """The user has gone on to another action: an answer to the last one is out of date."""
    escaped = Signal()
    """The user has pressed Escape: leave every mode."""
    project_opened = Signal(OpenProject)
    """A project was opened; comes before `project_changed`."""
    project_changed = Signal()
    """The project, or its volumes, runs or annotations have changed."""
    layers_missing = Signal(list)
    """The names of the volumes whose layers were removed; empty when all are there again."""
    mask_found = Signal()
    """An image layer was read and holds labels."""
    mask_changed = Signal()
    """The settings of masks and objects have changed."""
    catalogue_changed = Signal(Catalogue)
    """The methods and strategies were read."""
    closing = Signal()
    """The dock is being closed: write everything to disk."""

    def __init__(self, viewer: ViewerModel, command: Sequence[str] = COMMAND) -> None:
        self.viewer = viewer
        self.opened: OpenProject | None = None
        self.catalogue: Catalogue | None = None
        self.runner = Runner(command)
        self.mask = MaskSettings()
        self.where = Where()
        self._turns = Turns()
        self._closed = False
        self._missing: list[str] = []
        self.runner.happened.connect(self._on_event)
        self.runner.ended.connect(self._on_ended)
        viewer.layers.events.removed.connect(self._on_layer_removed)
        viewer.layers.events.inserted.connect(self._on_layer_inserted)
        self._guard = RemovalGuard(viewer)
        self._insertion = InsertionGuard(viewer)
        self.permanent = PermanentObjects(viewer)
        self._sliders = SliderRange(viewer, self._volumes_on_view)

    # -- messages ------------------------------------------------------------------------

    def say(self, text: str, kind: str = "note", details: str = "") -> None:
        """Show a message in the dock, its details behind *Why?*; write the home folder as ~."""
        # The dock shows what follows the first line after a click.
        self.said.emit(in_short(f"{text}\n{details}" if details else text), kind)

    def withdraw(self, text: str) -> None:
        """Remove a text from the dock, if it is still shown."""
        self.withdrawn.emit(in_short(text))

    @contextlib.contextmanager
    def showing_errors(self) -> Iterator[None]:
        """Show what goes wrong in the block in the dock; a fault of ours is raised."""
        try:
            yield
        except Exception as error:
            sentence = explained(error)
            if sentence is None:
                raise
            if sentence is not error:
                error_log.note(error)
            self.say(in_one_line(str(sentence)), "error")

    def _on_event(self, event: Any) -> None:
        if isinstance(event, Notice):
            self.say(event.text, "hint" if event.details else "note", event.details)

    def _on_ended(self, last: Finished | Failed) -> None:
        details = last.details if isinstance(last, Finished) else ""
        self.say(last.text, tone_of(last), details)
        self.project_changed.emit()

    def set_catalogue(self, catalogue: Catalogue) -> None:
        """Keep the methods and strategies and tell the panels."""
        # The answer of a worker thread may come after the dock was closed.
        if not self._closed:
            self.catalogue = catalogue
            self.catalogue_changed.emit(catalogue)

    def set_mask(self, **values: Any) -> None:
        """Change settings of masks, by the names of `MaskSettings`, and tell the panels."""
        changed = {
            name: value for name, value in values.items() if getattr(self.mask, name) != value
        }
        for name, value in changed.items():
            setattr(self.mask, name, value)
        if changed:
            self.mask_changed.emit()

    # -- jobs --------------------------------------------------------------------------------

    def start(self, job: Job) -> None:
        """Start a job, or show why it cannot start."""
        if self.runner.busy:
            self.say(self.runner.busy, "error")
            return
        # Of the jobs that predict; others compute in their own process.
        if "where" in type(job).model_fields:
            job = job.model_copy(update={"where": self.where})
        with self.showing_errors():
            self.runner.start(job)

    def in_background(
        self, work: Callable[[], Any], done: Callable[[Any], None], failed: Callable[[str], None]
    ) -> None:
        """Call ``work`` in a worker thread.

        Then ``done`` (with the result) or ``failed`` (with a sentence) is called in the main
        thread, unless the dock was closed meanwhile.
        """
        in_background(
            work,
            lambda value: None if self._closed else done(value),
            lambda text: None if self._closed else failed(text),
        )

    def in_turns(self, steps: Iterator[object]) -> None:
        """Do work of the main thread in steps, between which the window answers.

        What is left is not done if the dock is closed or another project is opened meanwhile.

        Args:
            steps: an item for each step; what goes wrong is shown in the dock.
        """

        def shown() -> Iterator[object]:
            with self.showing_errors():
                yield from steps

        self._turns.add(shown())

    # -- the project -------------------------------------------------------------------------

    def adopt(
        self,
        project: Project,
        layers: Mapping[str, Layer] | None = None,
        labels: Mapping[str, Layer] | None = None,
    ) -> None:
        """Make a project the open one, and close the previous one.

        Args:
            project: to show.
            layers: of the user, by the volumes that they show already.
            labels: of the user, by the volumes whose labels they show already.
        """
        self._turns.stop()
        before = self.opened if self.opened and self.opened.project is not project else None
        if before is not None:
            # What was said of the project before says nothing about this one.
            self.say("")
            before.remove_outputs()
            before.project.close()
        layers = layers or {}
        labels = labels or {}
        if self.opened is not None:
            self.opened.held.release()
        self.opened = opened = OpenProject(self.viewer, project, self.mask, self._on_put_back)
        # Another voxel size moves the sections below the slider: the user stays at the same one.
        sections = {name: section_of(self.viewer, layer) for name, layer in layers.items()}
        # First, because napari warns when it draws layers of which some have a unit.
        for layer in list(self.viewer.layers):
            self._place_if_unknown(layer)
        # Volume by volume: a project whose file was moved still opens with its other volumes.
        for entry in project.volumes.entries:
            with self.showing_errors():
                opened.show_volume(entry, layers.get(entry.name), labels.get(entry.name))
        for entry in project.volumes.targets()[:1]:
            if entry.name in sections:
                opened.show_section(entry.name, sections[entry.name])
            # Otherwise the layer added last, often hidden labels, would have napari's tools.
            if (image := opened.image(entry.name)) is not None:
                self.viewer.layers.selection.active = image
        # Last, so that the canvas is never empty in between.
        if before is not None:
            before.leave([*layers.values(), *labels.values()])
        self._announce_missing()
        self._sliders.update()
        self.project_opened.emit(opened)
        self.project_changed.emit()
        # Last: what a job that has gone on without napari reports needs all layers.
        self.runner.attach(project.folder)
        self.runner.warm_up()

    def show_again(self) -> None:
        """Show the open project again, after its voxel sizes have changed."""
        if self.opened is not None:
            images, labels = self.opened.layers
            # They lie where the volumes were.
            self.opened.remove_outputs()
            self.adopt(self.opened.project, images, labels)

    def is_output(self, layer: Layer) -> bool:
        """Whether a layer is an output of the dock rather than the user's."""
        return self.opened is not None and self.opened.is_output(layer)

    def bring_back_layers(self) -> None:
        """Show all volumes again whose layers were removed."""
        if self.opened is not None:
            for volume in self.opened.missing:
                with self.showing_errors():
                    self.opened.bring_back(volume)
        self._announce_missing()

    def _on_layer_removed(self, event: Any) -> None:
        layer = event.value
        if self.opened is None or not self.opened.forget(layer):
            return
        self._announce_missing()
        job = self.runner.job
        if job is not None:
            self.say(
                f"The layer '{layer.name}' was removed. The {job.noun} continues, because it reads "
                "the files of the project."
            )

    def _on_layer_inserted(self, event: Any) -> None:
        # A layer of the dock is placed already; one of the user may be a removed volume's.
        if self.opened is not None:
            if not self.opened.recognise(event.value):
                self._place_if_unknown(event.value)
            if not self.opened.is_output(event.value):
                protect(event.value)
            self._announce_missing()
        self._insertion.draw()

    def _on_put_back(self, layer: Layer) -> None:
        self.say(
            f"The layer '{layer.name}' was put back: its place comes from the voxel size, which "
            "you change under Data."
        )

    def _place_if_unknown(self, layer: Layer) -> None:
        """Show a layer without a voxel size beside the volumes, if there are any."""
        opened = self.opened
        targets = [] if opened is None else opened.project.volumes.targets()
        if opened is not None and targets and opened.place(targets[0].name).apply_if_unknown(layer):
            reslice(self.viewer)

    def _announce_missing(self) -> None:
        missing = [] if self.opened is None else self.opened.missing
        if missing != self._missing:
            self._missing = missing
            self.layers_missing.emit(missing)

    def _volumes_on_view(self) -> list[Layer]:
        """The layers that the sliders cover: what is visible, outputs aside."""
        opened = self.opened
        if opened is None:
            return []
        # An output covers its volume or, as a preview, one section of it.
        layers = [layer for layer in self.viewer.layers if not opened.is_output(layer)]
        shown = [layer for layer in layers if layer.visible]
        targets = [opened.image(entry.name) for entry in opened.project.volumes.targets()]
        return shown or [layer for layer in targets if layer is not None]

    # -- the end -----------------------------------------------------------------------------

    def close(self, ending: Ending = Ending.KEEP) -> None:
        """Part with the running job and close the project; may be called repeatedly."""
        if self._closed:
            return
        self._turns.stop()
        self.closing.emit()
        self._closed = True
        # The viewer's layers may have been destroyed already when its window closes.
        with contextlib.suppress(ValueError, RuntimeError):
            self.viewer.layers.events.removed.disconnect(self._on_layer_removed)
            self.viewer.layers.events.inserted.disconnect(self._on_layer_inserted)
            # What they show is on disk. A layer that stayed would be painted in behind our back.
            if self.opened is not None:
                self.opened.remove_outputs()
        if self.opened is not None:
            self.opened.held.release()
        self._sliders.release()
        self._guard.release()
        self._insertion.release()
        self.permanent.release()
        self.runner.close(ending)
        if self.opened is not None:
            self.opened.project.close()
            self.opened = None

    @property
    def closed(self) -> bool:
        """Whether the dock was closed."""
        return self._closed
