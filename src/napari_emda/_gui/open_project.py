"""The project that is open in a viewer, with the layers that show it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from napari.components import ViewerModel
from napari.layers import Image, Labels, Layer, Shapes

from napari_emda._gui.common.adapters import Placement, look_at, read_anew, section_on_view
from napari_emda.data.box import Box
from napari_emda.io.read import open_image, open_labels
from napari_emda.project.file import VolumeEntry
from napari_emda.project.project import Project
from napari_emda.settings.objects import ObjectSettings

L = TypeVar("L", Image, Labels, Shapes)
CANVAS = (700.0, 700.0)
"""Height and width in pixels of a canvas that has no window and cannot be measured."""


@dataclass
class MaskSettings:
    """What a mask is made with, on view and in exported files. It outlives a project.

    Attributes:
        threshold: probability from which on a voxel belongs to a class.
        smallest: objects with fewer pixels in a section are left out.
    """

    threshold: float = ObjectSettings.model_fields["threshold"].default
    smallest: int = ObjectSettings.model_fields["minimum_size"].default

    def for_export(self) -> dict[str, float]:
        """The same as settings of an export."""
        return {"threshold": self.threshold, "minimum_size": self.smallest}


class OpenProject:
    """A project and its layers: made when a project opens, and given to all who work on it.

    A layer is either an image of a volume, which may be the user's own, or an *output*: one of
    ours, known by its role (such as ``mask``) and its volume.

    Args:
        viewer: shows the layers.
        project: the dock closes it.
        mask: shared with all projects of one dock.

    Attributes:
        annotating: a patch is on view, so nothing may lie over the paint.
    """

    def __init__(self, viewer: ViewerModel, project: Project, mask: MaskSettings) -> None:
        self.viewer = viewer
        self.project = project
        self.mask = mask
        self.annotating = False
        self._places: dict[str, Placement] = {}
        self._images: dict[str, Layer] = {}
        self._outputs: dict[tuple[str, str], Layer] = {}
        self._shapes: dict[str, tuple[int, int, int]] = {}

    @property
    def runs(self) -> list[str]:
        """The runs with a model, the newest first."""
        return list(reversed(self.project.runs.names()))

    @property
    def volumes(self) -> list[str]:
        """The names of the volumes, the targets first."""
        entries = sorted(self.project.volumes.entries, key=lambda entry: entry.domain != "target")
        return [entry.name for entry in entries]

    # -- volumes -----------------------------------------------------------------------------

    @property
    def target(self) -> str:
        """The name of the volume that is to be segmented; JobError when there is none."""
        return self.project.volumes.target().name

    def show_volume(self, entry: VolumeEntry, layer: Layer | None = None) -> None:
        """Show a volume of the project; ``layer`` shows it already."""
        # A source may lie where the target lies, and would cover it.
        hidden = entry.domain == "source" and len(self.project.volumes.entries) > 1
        if layer is not None:
            layer.visible = layer.visible and not hidden
            self._places[entry.name] = Placement.of(layer, entry.spacing)
            self._places[entry.name].apply(layer)
            read_anew(self.viewer)
            self._images[entry.name] = layer
            return
        place = self._places[entry.name] = Placement(entry.spacing, unit=entry.unit)
        image = Image(
            open_image(self.project.folder / entry.image).array,
            name=entry.name,
            multiscale=False,
            visible=not hidden,
            **place.arguments(),
        )
        self._images[entry.name] = self.viewer.add_layer(image)
        if entry.labels is not None:
            labels = Labels(
                open_labels(self.project.folder / entry.labels).array,
                name=f"{entry.name} labels",
                multiscale=False,
                visible=False,
                **place.arguments(),
            )
            labels.editable = False
            self.viewer.add_layer(labels)

    def place(self, volume: str) -> Placement:
        """Where a volume lies in the world."""
        return self._places.get(volume) or Placement(self.project.volumes.entry(volume).spacing)

    def place_to_paint(self, volume: str) -> Placement:
        """Where a volume lies, in the unit of the world: for layers in which the mouse paints."""
        return self.place(volume).within(self.viewer)

    def shape(self, volume: str) -> tuple[int, int, int]:
        """Voxels of a volume along z, y, x."""
        if volume not in self._shapes:
            self._shapes[volume] = self.project.volumes.open(volume).shape
        return self._shapes[volume]

    def image(self, volume: str) -> Layer | None:
        """The layer that shows a volume, None when it was removed."""
        return self._images.get(volume)

    def entry_of(self, layer: Layer | None) -> VolumeEntry | None:
        """The volume that a layer shows; None for other layers."""
        shown = (name for name, image in self._images.items() if image is layer)
        name = next(shown, None)
        return None if name is None else self.project.volumes.entry(name)

    def is_volume(self, layer: Layer) -> bool:
        """Whether a layer shows a volume of the project."""
        return any(image is layer for image in self._images.values())

    def show_only(self, volume: str) -> None:
        """Show one volume; hide the others with their outputs: they may lie at the same place."""
        # That volume first, so that the canvas is never empty in between.
        for name in sorted(self._images, key=lambda name: name != volume):
            self._images[name].visible = name == volume
        for (_, name), layer in self._outputs.items():
            if name != volume:
                layer.visible = False

    # -- the section on view -----------------------------------------------------------------

    def section_on_view(self, volume: str) -> Box:
        """The part of a volume's section on view that is worth predicting."""
        return section_on_view(self.viewer, self.place(volume), self.shape(volume))

    def show_section(
        self, volume: str, z: int | None = None, canvas: tuple[float, float] = CANVAS
    ) -> None:
        """Bring a whole section of a volume on view, by default the one at which the viewer is."""
        if z is None:
            z = self.section_on_view(volume).start[0]
        _, height, width = self.shape(volume)
        section = Box((z, 0, 0), (z + 1, height, width))
        look_at(self.viewer, self.place(volume), section, canvas)

    # -- outputs -----------------------------------------------------------------------------

    def output(self, role: str, volume: str) -> Layer | None:
        """The output of that role, None when there is none."""
        return self._outputs.get((role, volume))

    def add_output(self, role: str, volume: str, layer: L) -> L:
        """Show a layer of ours, in place of the one that had its role."""
        self.remove_output(role, volume)
        active = self.viewer.layers.selection.active
        # Known as ours before the viewer tells anybody of it: our layers are not offered as inputs.
        self._outputs[role, volume] = layer
        self.viewer.add_layer(layer)
        if active is not None:
            self.viewer.layers.selection.active = active
        return layer

    def called(self, what: str, volume: str) -> str:
        """A name for an output: with the volume's where there are several targets."""
        return f"{what} {volume}" if len(self.project.volumes.targets()) > 1 else what

    def is_output(self, layer: Layer) -> bool:
        """Whether a layer is one of ours rather than the user's."""
        return any(output is layer for output in self._outputs.values())

    def shown(self, roles: Sequence[str] | None = None) -> list[Layer]:
        """The visible outputs, all or those of some roles."""
        return [
            layer
            for (role, _), layer in self._outputs.items()
            if layer.visible and (roles is None or role in roles)
        ]

    def remove_output(self, role: str, volume: str) -> None:
        """Take an output away, if it is there."""
        layer = self._outputs.pop((role, volume), None)
        if layer is not None and layer in self.viewer.layers:
            self.viewer.layers.remove(layer)

    def remove_previews(self, volume: str) -> None:
        """Take the previews of a volume away."""
        for role, name in list(self._outputs):
            if name == volume and role.startswith("preview"):
                self.remove_output(role, name)

    def remove_outputs(self) -> None:
        """Take all outputs away: what they show is on disk, and none is the user's own layer."""
        for role, volume in list(self._outputs):
            self.remove_output(role, volume)

    def forget(self, layer: Layer) -> bool:
        """Drop a layer that was removed from the viewer; returns whether it was one of these."""
        volumes = [name for name, image in self._images.items() if image is layer]
        for name in volumes:
            del self._images[name]
            self.remove_previews(name)
        if volumes:
            # An empty canvas helps nobody, and Mesa's drivers crash when the last image that was
            # shown is removed.
            for image in self._images.values():
                image.visible = True
        roles = [key for key, output in self._outputs.items() if output is layer]
        for key in roles:
            del self._outputs[key]
        return bool(volumes or roles)
