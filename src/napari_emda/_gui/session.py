"""What the panels of one dock share: the viewer, the project, the running job, and what is said to the user."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from napari.components import ViewerModel
from napari.layers import Image, Labels, Layer, Shapes
from psygnal import Signal

from napari_emda._gui.common.adapters import Placement, read_anew
from napari_emda._gui.process.catalogue import Catalogue
from napari_emda._gui.process.runner import COMMAND, Runner, in_background
from napari_emda.errors import EmdaError
from napari_emda.events import Failed, Finished, Notice
from napari_emda.io.read import open_image, open_labels
from napari_emda.project.file import VolumeEntry
from napari_emda.project.job_files import Job
from napari_emda.project.project import Project

L = TypeVar("L", Image, Labels, Shapes)


def in_short(text: object) -> str:
    """A path, or a sentence with paths in it, with ~ for the home folder."""
    return str(text).replace(str(Path.home()) + os.sep, "~" + os.sep)


def tone_of(last: Finished | Failed) -> str:
    """How the end of a job is said: as an ``error``, as a ``hint`` that not all is well, or as ``done``."""
    if isinstance(last, Failed):
        return "error"
    return "hint" if last.result.get("warnings") or last.result.get("helped") is False else "done"


class Session:
    """One project in one viewer. Only the main thread uses it.

    Args:
        viewer: shows the layers.
        command: what jobs are started with; ``{job}`` stands for the job file.
    """

    said = Signal(str, str)
    """Something to show in the dock: the text, and ``note``, ``hint``, ``done`` or ``error``."""
    moved_on = Signal()
    """The user does the next thing: a note on the last one is of no more use."""
    project_changed = Signal()
    """Another project, or another set of volumes, runs or annotations."""
    adopted = Signal()
    """Another project was taken; comes before `project_changed`."""
    catalogue_changed = Signal()
    """Methods and strategies are known now."""
    closing = Signal()
    """The dock goes away: put everything on disk."""

    def __init__(self, viewer: ViewerModel, command: Sequence[str] = COMMAND) -> None:
        self.viewer = viewer
        self.project: Project | None = None
        self.catalogue: Catalogue | None = None
        self.runner = Runner(command)
        self.threshold, self.smallest = 0.5, 0
        self.annotating = False
        self._places: dict[str, Placement] = {}
        self._images: dict[str, Layer] = {}
        self._outputs: dict[tuple[str, str], Layer] = {}
        self._shapes: dict[str, tuple[int, int, int]] = {}
        self._closed = False
        self.runner.happened.connect(self._on_event)
        self.runner.ended.connect(self._on_ended)
        viewer.layers.events.removed.connect(self._on_layer_removed)

    # -- what is said --------------------------------------------------------------------------------------------

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
                f"The disk refused: {what}({error.strerror}); free some space or choose another folder.",
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
            self.catalogue_changed.emit()

    # -- jobs ----------------------------------------------------------------------------------------------------

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
        """Work in a worker thread; ``done`` or ``failed`` is called in the main thread, unless the dock is gone."""
        in_background(
            work,
            lambda value: None if self._closed else done(value),
            lambda text: None if self._closed else failed(text),
        )

    # -- the project ---------------------------------------------------------------------------------------------

    def adopt(self, project: Project, layers: dict[str, Layer] | None = None) -> None:
        """Take a project, closing the one before; ``layers`` already show some of its volumes."""
        if self.project is not None and self.project is not project:
            for role, volume in list(
                self._outputs
            ):  # all of it is on disk, and none of it the user's own layer
                self.remove_output(role, volume)
            self.project.close()
        self.project = project
        self._places, self._images, self._outputs, self._shapes = {}, {}, {}, {}
        for entry in project.entries:
            layer = (layers or {}).get(entry.name)
            with self.telling():
                self._show_volume(entry, layer)
        self.adopted.emit()
        self.project_changed.emit()

    def _show_volume(self, entry: VolumeEntry, layer: Layer | None) -> None:
        assert self.project is not None
        hidden = (
            entry.domain == "source" and len(self.project.entries) > 1
        )  # it lies where the target lies
        if layer is not None:
            layer.visible = layer.visible and not hidden
            self._places[entry.name] = Placement.of(layer, entry.spacing)
            self._places[entry.name].apply(layer)
            read_anew(self.viewer)
            self._images[entry.name] = layer
            return
        place = self._places[entry.name] = Placement(entry.spacing, unit=entry.unit)
        image = open_image(self.project.folder / entry.image).array
        shown = Image(
            image, name=entry.name, multiscale=False, visible=not hidden, **place.arguments()
        )
        self._images[entry.name] = self.viewer.add_layer(shown)
        if entry.labels is not None:
            labels = open_labels(self.project.folder / entry.labels).array
            layer = Labels(
                labels,
                name=f"{entry.name} labels",
                multiscale=False,
                visible=False,
                **place.arguments(),
            )
            layer.editable = False
            self.viewer.add_layer(layer)

    def place(self, volume: str) -> Placement:
        """Where a volume lies in the world."""
        assert self.project is not None
        return self._places.get(volume) or Placement(self.project.entry(volume).spacing)

    def place_to_paint(self, volume: str) -> Placement:
        """Where a volume lies, for a layer in which the mouse paints or draws, as the world's unit is now."""
        return self.place(volume).within(self.viewer)

    def shape(self, volume: str) -> tuple[int, int, int]:
        """Voxels of a volume along z, y, x."""
        assert self.project is not None
        if volume not in self._shapes:
            self._shapes[volume] = self.project.volume(volume).shape
        return self._shapes[volume]

    def image(self, volume: str) -> Layer | None:
        """The layer that shows a volume, None when it was removed."""
        return self._images.get(volume)

    def output(self, role: str, volume: str, make: Callable[[], L] | None = None) -> L | None:
        """The layer of ours with that role; made and added when there is none and ``make`` is given."""
        layer: Any = self._outputs.get((role, volume))
        if layer is None and make is not None:
            active = self.viewer.layers.selection.active
            layer = self._outputs[role, volume] = make()  # known as ours before anybody hears of it
            self.viewer.add_layer(layer)
            if active is not None:
                self.viewer.layers.selection.active = active
        return layer

    @property
    def target(self) -> str:
        """The name of the volume that is to be segmented; JobError when there is none."""
        assert self.project is not None
        return self.project.target().name

    def entry_of(self, layer: Layer | None) -> VolumeEntry | None:
        """The volume that a layer shows; None for other layers."""
        name = next((name for name, image in self._images.items() if image is layer), None)
        return None if name is None or self.project is None else self.project.entry(name)

    def is_volume(self, layer: Layer) -> bool:
        """Whether a layer shows a volume of the project."""
        return any(image is layer for image in self._images.values())

    def is_output(self, layer: Layer) -> bool:
        """Whether a layer is one of ours rather than the user's."""
        return any(output is layer for output in self._outputs.values())

    def show_only(self, volume: str) -> None:
        """Show one volume and hide the others with all that belongs to them: they may lie at the same place."""
        for name in sorted(
            self._images, key=lambda name: name != volume
        ):  # the canvas is never empty in between
            self._images[name].visible = name == volume
        for (_, name), layer in self._outputs.items():
            if name != volume:
                layer.visible = False

    def shown(self, roles: Sequence[str] | None = None) -> list[Layer]:
        """The visible layers of ours, all or those of some roles."""
        every = self._outputs.items()
        return [
            layer
            for (role, _), layer in every
            if layer.visible and (roles is None or role in roles)
        ]

    def called(self, what: str, volume: str) -> str:
        """A name for a layer of ours: with the volume's where there are several targets."""
        assert self.project is not None
        several = sum(entry.domain == "target" for entry in self.project.entries) > 1
        return f"{what} {volume}" if several else what

    def show_volume(self, entry: VolumeEntry, layer: Layer | None = None) -> None:
        """Show a volume that was added to the project; ``layer`` shows it already."""
        self._show_volume(entry, layer)
        self.project_changed.emit()

    def remove_output(self, role: str, volume: str) -> None:
        """Take a layer of ours away, if it is there."""
        layer = self._outputs.pop((role, volume), None)
        if layer is not None and layer in self.viewer.layers:
            self.viewer.layers.remove(layer)

    def remove_previews(self, volume: str) -> None:
        """Take the previews of a volume away."""
        for role, name in list(self._outputs):
            if name == volume and role.startswith("preview"):
                self.remove_output(role, name)

    def _on_layer_removed(self, event: Any) -> None:
        layer = event.value
        volumes = [name for name, image in self._images.items() if image is layer]
        for name in volumes:
            del self._images[name]
            self.remove_previews(name)
        if volumes and not self._closed:
            # An empty canvas helps nobody, and Mesa's drivers crash when the last image that was shown is removed.
            for image in self._images.values():
                image.visible = True
        for key in [key for key, output in self._outputs.items() if output is layer]:
            del self._outputs[key]
            volumes.append(key[1])
        job = self.runner.job
        if volumes and job is not None and not self._closed:
            self.say(
                f"The layer '{layer.name}' was removed; the {job.noun} goes on, since it works on the "
                "files of the project."
            )

    # -- the end -------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """End the child and give the project back; safe to call more than once."""
        if self._closed:
            return
        self.closing.emit()
        self._closed = True
        with contextlib.suppress(ValueError, RuntimeError):
            self.viewer.layers.events.removed.disconnect(self._on_layer_removed)
        self.runner.close()
        if self.project is not None:
            self.project.close()
            self.project = None

    @property
    def closed(self) -> bool:
        """Whether the dock is gone."""
        return self._closed
