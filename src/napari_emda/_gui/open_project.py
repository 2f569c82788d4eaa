"""The project that is open in a viewer, with the layers that show it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import TypeVar

from napari.components import ViewerModel
from napari.layers import Image, Labels, Layer, Shapes

from napari_emda._gui.common.adapters import (
    Placement,
    look_at_section,
    reslice,
    section_on_view,
    show,
    unlink_visibility,
)
from napari_emda._gui.common.canvas import remove_layers
from napari_emda._gui.common.held_places import HeldPlaces
from napari_emda._gui.common.label_placement import labels_on
from napari_emda._gui.common.layer_order import PREFIX, arrange, place_of
from napari_emda._gui.common.layer_volumes import is_plain, location_of
from napari_emda._gui.common.mask_settings import MaskSettings
from napari_emda._gui.common.volume_layers import image_layer, labels_layer
from napari_emda._gui.common.volume_mark import is_own, mark, marked, opened_from
from napari_emda.data.box import Box
from napari_emda.project.file import VolumeEntry
from napari_emda.project.project import Project

L = TypeVar("L", Image, Labels, Shapes)
# Roles of layers in which the mouse paints or draws (see `OpenProject.place_to_paint`).
PAINTED = ("annotations", "patches")
# Height and width in pixels of a canvas that has no window and cannot be measured.
CANVAS = (700.0, 700.0)


class OpenProject:
    """An open project and the layers that show it; all panels share this object.

    A layer is either an image of a volume, which may be the user's own, or an *output*: a layer of
    the dock, identified by its role (such as ``mask``) and its volume.

    Args:
        viewer: shows the layers.
        project: the dock closes it.
        mask: shared by all projects of a dock.
        put_back: called with a layer that was moved away from its volume, when it is back.

    Attributes:
        held: keeps the layers of a volume on top of each other.
        annotating: whether a patch is on view, so that no layer may cover the paint.
        auditing: whether an audit is open, so that no prediction may be shown.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        project: Project,
        mask: MaskSettings,
        put_back: Callable[[Layer], object] = lambda layer: None,
    ) -> None:
        self.viewer = viewer
        self.project = project
        self.mask = mask
        self.annotating = False
        self.auditing = False
        self._places: dict[str, Placement] = {}
        self._images: dict[str, Layer] = {}
        self._labels: dict[str, Layer] = {}
        # Volumes whose layers the user has removed.
        self._removed: list[str] = []
        self._outputs: dict[tuple[str, str], Layer] = {}
        self.held = HeldPlaces(viewer, put_back)
        self._shapes: dict[str, tuple[int, int, int]] = {}

    @property
    def runs(self) -> list[str]:
        """The runs with a model: first the one that is used by default, then newest first."""
        return self.project.runs.offered()

    @property
    def volumes(self) -> list[str]:
        """The names of the volumes, the targets first."""
        entries = sorted(self.project.volumes.entries, key=lambda entry: entry.domain != "target")
        return [entry.name for entry in entries]

    # -- volumes -----------------------------------------------------------------------------

    @property
    def target(self) -> str:
        """The name of the first target; JobError if the project has none."""
        return self.project.volumes.target().name

    def show_volume(
        self, entry: VolumeEntry, layer: Layer | None = None, labels: Layer | None = None
    ) -> None:
        """Show a volume of the project, and its labels, hidden.

        Args:
            entry: the volume.
            layer: of the user, if it shows the volume already. One with other axes than z, y, x is
                replaced, because the outputs could not lie on it.
            labels: of the user, likewise.
        """
        layer = layer or self._shown(entry, "image", entry.image, Image)
        if entry.labels is not None:
            labels = labels or self._shown(entry, "labels", entry.labels, Labels)
        # Labels that were moved onto the image's voxels are shown from the project.
        apart = layer is not None and labels is not None and labels_on(layer, labels) is not None
        # A source often has the same position as the target and would cover it.
        hidden = entry.domain == "source" and len(self.project.volumes.entries) > 1
        # The user may have typed another voxel size than the layer has.
        place = (
            Placement(entry.spacing, unit=entry.unit)
            if layer is None
            else Placement.of(layer, entry.spacing)
        )
        self._places[entry.name] = place
        if layer is not None and is_plain(layer):
            image = layer
            image.visible = image.visible and not hidden
            place.apply(image)
            reslice(self.viewer)
        else:
            name = layer.name if layer is not None else entry.name
            image = self._added(
                self._image_of(entry, name, visible=not hidden), entry, instead_of=layer
            )
        self._set_image(entry.name, image)
        self._mark(image, entry, "image", is_ours=is_own(image))
        self._show_labels(entry, labels, apart=apart)

    def _shown(self, entry: VolumeEntry, kind: str, file: str, of: type[Layer]) -> Layer | None:
        """The layer that shows a file of a volume already: the user's, or one of a closed dock."""
        layers = self.viewer.layers
        by_mark = marked(layers, self.project.folder, entry.name, kind)
        return by_mark or opened_from(layers, self.project.volumes.path(file), of)

    def _mark(self, layer: Layer, entry: VolumeEntry, kind: str, *, is_ours: bool) -> None:
        mark(layer, self.project.folder, entry.name, kind, is_ours=is_ours)

    def _image_of(self, entry: VolumeEntry, name: str, *, visible: bool) -> Image:
        path = self.project.volumes.path(entry.image)
        return image_layer(path, name, self.place(entry.name), visible=visible)

    def _show_labels(self, entry: VolumeEntry, layer: Layer | None, *, apart: bool) -> None:
        """Show the labels of a volume where the volume is; hidden, because they would cover it."""
        if entry.labels is None:
            return
        place = self._places[entry.name]
        if isinstance(layer, Labels) and is_plain(layer) and not layer.multiscale and not apart:
            layer.visible = False
            place.apply(layer)
            self._set_labels(entry.name, layer)
            self._mark(layer, entry, "labels", is_ours=is_own(layer))
            return
        name = f"{entry.name} labels" if layer is None else layer.name
        labels = labels_layer(self.project.volumes.path(entry.labels), name, place)
        self._set_labels(entry.name, self._added(labels, entry, instead_of=layer))

    def _set_image(self, volume: str, layer: Layer) -> None:
        self._images[volume] = layer
        self.held.hold(layer, partial(self.place, volume))

    def _set_labels(self, volume: str, layer: Layer) -> None:
        self._labels[volume] = layer
        self.held.hold(layer, partial(self.place, volume))

    def _added(self, layer: L, entry: VolumeEntry, *, instead_of: Layer | None) -> L:
        """Add a layer of the project, and remove the user's layer that it replaces."""
        kind = "labels" if isinstance(layer, Labels) else "image"
        self._mark(layer, entry, kind, is_ours=True)
        self.viewer.add_layer(layer)
        if instead_of is not None and instead_of in self.viewer.layers:
            name = instead_of.name
            self.viewer.layers.remove(instead_of)
            # napari has numbered the name while both were there.
            layer.name = name
        return layer

    @property
    def layers(self) -> tuple[dict[str, Layer], dict[str, Layer]]:
        """The layers of images and labels, by their volumes."""
        return dict(self._images), dict(self._labels)

    def leave(self, kept: Collection[Layer]) -> None:
        """Remove the layers of the project that were not the user's, and hide those that were.

        Args:
            kept: layers that the next project uses.
        """
        for layer in (*self._images.values(), *self._labels.values()):
            if layer in kept or layer not in self.viewer.layers:
                continue
            if is_own(layer):
                self.viewer.layers.remove(layer)
            else:
                layer.visible = False

    def place(self, volume: str) -> Placement:
        """The placement of a volume in the world."""
        return self._places.get(volume) or Placement(self.project.volumes.entry(volume).spacing)

    def place_to_paint(self, volume: str) -> Placement:
        """The placement in the unit of the world, which layers need in which the mouse paints."""
        return self.place(volume).within(self.viewer)

    def shape(self, volume: str) -> tuple[int, int, int]:
        """Voxels of a volume along z, y, x."""
        # Kept: opening a volume reads its file, and the shape is asked for often.
        if volume not in self._shapes:
            self._shapes[volume] = self.project.volumes.open(volume).shape
        return self._shapes[volume]

    def image(self, volume: str) -> Layer | None:
        """The layer that shows a volume; None if it was removed."""
        return self._images.get(volume)

    @property
    def missing(self) -> list[str]:
        """The volumes whose layers the user has removed, the targets first."""
        return [name for name in self.volumes if name in self._removed]

    def bring_back(self, volume: str) -> None:
        """Show a removed volume again, from the files of the project, where it was before.

        Raises:
            EmdaError: its file cannot be read.
        """
        if volume not in self.missing:
            return
        entry = self.project.volumes.entry(volume)
        # A source stays hidden: it would lie beside or over the target.
        image = self._image_of(entry, volume, visible=entry.domain == "target")
        self._mark(image, entry, "image", is_ours=True)
        self._take_back(volume, image)
        # Below the outputs, which it would cover.
        outputs = [layer for layer in self.viewer.layers if self.is_output(layer)]
        index = min(map(self.viewer.layers.index, outputs), default=len(self.viewer.layers))
        self._insert(index, image)

    def recognise(self, layer: Layer) -> bool:
        """Place a layer that the user has opened if its file is a volume's image or its labels.

        It takes the place of the volume's layer if that was removed. Returns whether it is such.
        """
        opened = location_of(layer)
        if opened is None or layer.ndim > 3 or self.is_output(layer):
            return False
        path = opened.resolve()
        for entry in self.project.volumes.entries:
            image = self.project.volumes.path(entry.image).resolve()
            labels = self.project.volumes.path(entry.labels or entry.image).resolve()
            if path in (image, labels):
                self.place(entry.name).apply(layer)
                reslice(self.viewer)
                if path == image and isinstance(layer, Image) and entry.name in self.missing:
                    self._mark(layer, entry, "image", is_ours=False)
                    self._take_back(entry.name, layer)
                return True
        return False

    def _take_back(self, volume: str, layer: Layer) -> None:
        self._removed.remove(volume)
        self._set_image(volume, layer)

    def entry_of(self, layer: Layer | None) -> VolumeEntry | None:
        """The volume that a layer shows; None for other layers."""
        names = (name for name, image in self._images.items() if image is layer)
        return next((self.project.volumes.entry(name) for name in names), None)

    def is_volume(self, layer: Layer) -> bool:
        """Whether a layer shows a volume of the project."""
        return any(image is layer for image in self._images.values())

    def uncover(self, volume: str) -> None:
        """Show a volume with its outputs above it and no other volume over it, as for painting."""
        self.bring_back(volume)
        image = self.image(volume)
        if image is None:
            return
        layers = self.viewer.layers
        unlink_visibility(layers, [*self._images.values(), *self._outputs.values()])
        show(image)
        for other in self._images.values():
            if layers.index(other) > layers.index(image):
                other.visible = False
        outputs = {role: layer for (role, name), layer in self._outputs.items() if name == volume}
        arrange(self.viewer, image, outputs)

    def show_only(self, volume: str) -> None:
        """Show one volume; hide the others with their outputs, which may lie at the same place."""
        self.uncover(volume)
        # That volume first, so that the canvas is never empty in between.
        for name in sorted(self._images, key=lambda name: name != volume):
            self._images[name].visible = name == volume
        for (_, name), layer in self._outputs.items():
            if name != volume:
                layer.visible = False

    # -- the section on view -----------------------------------------------------------------

    def section_on_view(self, volume: str) -> Box:
        """The visible part of a volume's current section (see `adapters.section_on_view`)."""
        return section_on_view(self.viewer, self.place(volume), self.shape(volume))

    def show_section(
        self, volume: str, z: int | None = None, canvas: tuple[float, float] = CANVAS
    ) -> None:
        """Bring a whole section of a volume into view, by default the current one."""
        self.bring_back(volume)
        if z is None:
            z = self.section_on_view(volume).start[0]
        look_at_section(self.viewer, self.place(volume), z, self.shape(volume), canvas)

    # -- outputs -----------------------------------------------------------------------------

    def output(self, role: str, volume: str) -> Layer | None:
        """The output of that role; None if there is none."""
        return self._outputs.get((role, volume))

    def add_output(self, role: str, volume: str, layer: L) -> L:
        """Show an output, in place of the one that had its role.

        All outputs lie in the same order, whichever comes first (see `layer_order`).
        """
        self.remove_output(role, volume)
        index = place_of(self.viewer, role, self._outputs, self.image(volume))
        # Registered before it is added, so that panels that list layers at that event leave it out.
        self._outputs[role, volume] = layer
        # A preview shows a part of a section, which the view determines.
        if not role.startswith("preview"):
            painted = role in PAINTED
            place = self.place_to_paint if painted else self.place
            self.held.hold(layer, partial(place, volume))
        self._insert(index, layer)
        return layer

    def _insert(self, index: int, layer: Layer) -> None:
        """Add a layer without taking the brush from the user's hand."""
        # napari selects every layer that is added.
        active = self.viewer.layers.selection.active
        self.viewer.layers.insert(index, layer)
        if active is not None:
            self.viewer.layers.selection.active = active

    def called(self, what: str, volume: str) -> str:
        """A layer name for an output, with the volume's name if there are several targets."""
        several = len(self.project.volumes.targets()) > 1
        return f"{PREFIX}{what} of {volume}" if several else PREFIX + what

    def is_output(self, layer: Layer) -> bool:
        """Whether a layer is an output of the dock rather than the user's."""
        return any(output is layer for output in self._outputs.values())

    def shown(self, roles: Sequence[str] | None = None) -> list[Layer]:
        """The visible outputs, all or those with certain roles."""
        return [
            layer
            for (role, _), layer in self._outputs.items()
            if layer.visible and (roles is None or role in roles)
        ]

    def remove_output(self, role: str, volume: str) -> None:
        """Remove an output, if it exists."""
        self._remove([key for key in self._outputs if key == (role, volume)])

    def remove_previews(self, volume: str) -> None:
        """Remove the previews of a volume."""
        self._remove([k for k in self._outputs if k[1] == volume and k[0].startswith("preview")])

    def remove_outputs(self) -> None:
        """Remove all outputs; nothing is lost, because what they show is on disk."""
        self._remove(list(self._outputs))

    def _remove(self, keys: Sequence[tuple[str, str]]) -> None:
        for key in keys:
            self.held.let_go(self._outputs[key])
        if keys:  # popped one by one: until its turn, each counts as an output
            remove_layers(self.viewer, (self._outputs.pop(key, None) for key in keys))

    def forget(self, layer: Layer) -> bool:
        """Forget a layer that was removed from the viewer; returns whether it was one of these."""
        self.held.let_go(layer)
        volumes = [name for name, image in self._images.items() if image is layer]
        for name in volumes:
            del self._images[name]
            self._removed.append(name)
            # Without the image below, they would look like the image of another volume.
            self.remove_previews(name)
        for name in [name for name, labels in self._labels.items() if labels is layer]:
            del self._labels[name]
        roles = [key for key, output in self._outputs.items() if output is layer]
        for key in roles:
            del self._outputs[key]
        return bool(volumes or roles)
