"""The panel to choose source, target and project folder."""

from __future__ import annotations

import threading
from functools import partial
from pathlib import Path
from typing import Any

from napari.layers import Image, Labels, Layer
from qtpy.QtWidgets import QWidget

from napari_emda._gui.common.layer_volumes import refusal, sizes_of
from napari_emda._gui.common.text_box import TextBox
from napari_emda._gui.common.widgets import (
    Drawer,
    Sentence,
    button,
    column,
    file_button,
    labelled,
    row,
    show_row,
)
from napari_emda._gui.data.add_target import AddTarget
from napari_emda._gui.data.backup_list import BackupList
from napari_emda._gui.data.complaint import Complaint
from napari_emda._gui.data.file_notices import FileNotices
from napari_emda._gui.data.folder_box import FolderBox
from napari_emda._gui.data.gap_sentence import ChosenImage, GapSentence
from napari_emda._gui.data.guesses import class_in_name, image_of, labels_of
from napari_emda._gui.data.image_choice import ImageChoice
from napari_emda._gui.data.label_numbers import OF_SOURCE, LabelNumbers
from napari_emda._gui.data.layer_widgets import LayerChoice, VoxelSize, not_offered
from napari_emda._gui.data.masks import LABEL_LAYERS, MaskLayers
from napari_emda._gui.data.model_start import ModelStart
from napari_emda._gui.data.name_clusters import NameClusters
from napari_emda._gui.data.opening import Opening
from napari_emda._gui.data.project_making import ProjectMaking
from napari_emda._gui.data.project_setup import Pick, in_words
from napari_emda._gui.data.remarks import (
    MODEL,
    mask_remark,
    misplacement,
    placement_remark,
    size_remark,
    sizes_needed,
    what_is_needed,
)
from napari_emda._gui.data.with_project import GridQuestion, ProjectQuestion, is_open_project
from napari_emda._gui.open_project import OpenProject
from napari_emda._gui.session import Session


class DataPanel(QWidget):
    """Source image and labels, target image, voxel sizes, classes and project folder."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self._stop = threading.Event()
        self._making = ProjectMaking(session, self._stop)
        self._masks = MaskLayers(session)
        viewer = session.viewer
        self.source = LayerChoice(viewer, Image, refusal, none="none")
        self.source_size = VoxelSize("voxel size of the source")
        self.labels = LayerChoice(
            viewer, Labels, self._masks.refusal, none="none", also=self._masks
        )
        self.target = LayerChoice(viewer, Image, refusal)
        self.source.setToolTip("An image that is labelled already, from which the model learns.")
        self.labels.setToolTip(f"The labels of the source image. {LABEL_LAYERS}")
        self.target.setToolTip("The new image that you want to segment.")
        self.target_size = VoxelSize("voxel size of the target")
        self.classes = TextBox(
            "Names of the classes, background first, separated by commas.",
            "background, foreground",
        )
        self.label_numbers = LabelNumbers(session, self.labels, OF_SOURCE, self.class_names)
        self.model = ModelStart(session, self._stop)
        self.folder = FolderBox()
        self.left_out = Sentence()
        self.images = ImageChoice(session, self._stop)
        self.files = FileNotices(session, self._stop)
        self.sizes = Sentence()
        self.domain_gap = GapSentence(session, self._stop)
        self.missing = Sentence()
        self.use = button(
            "Use these layers", "Check the layers and create the project.", self.use_layers
        )
        sides = ((self.source, self.source_size), (self.target, self.target_size))
        self.grids = GridQuestion(session, sides)
        self._complaint = Complaint(session, self._input)
        self.opening = Opening(session)
        self.current = Sentence()
        self.another = AddTarget(session)
        self.question = ProjectQuestion(session, self._make_project, self.another.add_pick)
        self.naming = NameClusters(session)
        self.naming_drawer = Drawer("Name clusters", self.naming)
        self.backups = BackupList(session)
        self._build()
        self._connect()
        self.refresh()

    def _build(self) -> None:
        browse = file_button("Choose a folder.", self.folder.browse)
        fields = labelled(
            ("source image", self.source),
            (None, self.source_size),
            ("source labels", self.labels),
            (None, self.label_numbers),
            (None, self.model),
            ("target image", self.target),
            (None, self.target_size),
            ("classes", self.classes),
            ("project in", row(None, self.folder, (browse, 0))),
        )
        remarks = (self.left_out, self.images, self.files, self.sizes, self.grids)
        sentences = (*remarks, self.domain_gap, self.missing)
        more = Drawer("Another target for this project", self.another)
        above = (self.opening, self.current)
        below = (self.question, more, self.naming_drawer, self.backups)
        column(self, *above, fields, *sentences, self.use, *below)

    def _connect(self) -> None:
        layers = self._session.viewer.layers
        for event in (layers.events.inserted, layers.events.removed, layers.events.renamed):
            event.connect(self.refresh)
        self._session.closing.connect(self._close)
        self._session.project_changed.connect(self._show_project)
        for choice, size in ((self.source, self.source_size), (self.target, self.target_size)):
            choice.chosen.connect(partial(self._on_image, choice, size))
            size.typed.connect(choice.keep)
            size.edited.connect(self._remark)
            size.edited.connect(self._measure_domain_gap)
        self.labels.chosen.connect(self._on_labels)
        self.labels.enables(self.label_numbers)
        self.label_numbers.changed.connect(self._remark)
        self._making.changed.connect(self._remark)
        self._making.asked.connect(self.label_numbers.ask)
        self._making.failed.connect(self._complaint.show)
        self.folder.textChanged.connect(lambda _: self._remark())
        self.model.chosen.connect(self._on_model)
        self.images.opened.connect(self.target.guess)
        # The number of classes decides whether a number is one.
        self.classes.textChanged.connect(lambda _: self.label_numbers.review())
        self._session.mask_found.connect(self.refresh)

    def _close(self) -> None:
        # First, so that running checks end and a project that is being created can be removed.
        self._stop.set()
        self._making.take_back()
        events = self._session.viewer.layers.events
        for event in (events.inserted, events.removed, events.renamed):
            event.disconnect(self.refresh)

    # -- choosing ----------------------------------------------------------------------------

    def refresh(self, event: Any = None) -> None:
        """List the current layers, and choose those that are obvious."""
        for choice in (self.source, self.labels, self.target):
            choice.refresh(lambda layer: not self._session.is_output(layer))
        left_out = {**self.source.left_out, **self.labels.left_out}
        for layer in self.labels.layers():
            left_out.pop(layer.name, None)
        self.left_out.show_text(not_offered(left_out), "hint")
        self.another.refresh()
        self._guess()
        self._remark()

    def _guess(self) -> None:
        """Choose the labels' image as source and another image as target, unless the user has."""
        opened = self._session.opened
        images = [image for image in self.source.layers() if not self._masks(image)]
        # With a project open, its volumes rather than what was opened since.
        images.sort(key=lambda image: opened is None or not opened.is_volume(image))
        self.labels.guess(labels_of(self.labels.layers(), images))
        chosen = self.labels.layer()
        if chosen is not None:
            self.source.guess(image_of(chosen, images))
        others = [image for image in images if image is not self.source.layer()]
        # An image cannot be both, so the target makes way for a source that the user has chosen.
        if self.target.layer() in (None, self.source.layer()):
            self.target.guessed = True
        self.target.guess(others[0] if others else None)

    def _on_image(self, choice: LayerChoice, size: VoxelSize) -> None:
        layer = choice.layer()
        size.set_value((None, None, None) if layer is None else sizes_of(layer))
        self._propose_folder()

    def _propose_folder(self) -> None:
        self.folder.propose([self._image(self.target), self._image(self.source)])

    def _on_model(self) -> None:
        """A model takes the place of source, labels and classes, or gives it back."""
        for widget in (self.source, self.source_size, self.labels, self.label_numbers):
            show_row(widget, shown=not self.model.on)
        self.classes.setEnabled(self.model.model is None)
        if self.model.model is not None:
            self.classes.setText(", ".join(self.model.model.classes))
        self._measure_domain_gap()
        self._remark()

    def _source(self) -> Layer | None:
        """The layer of the source, unless a model takes its place."""
        return None if self.model.on else self.source.layer()

    def _labels(self) -> Layer | None:
        return None if self.model.on else self.labels.layer()

    def _on_labels(self) -> None:
        """Take the class name from that of the labels, unless the user has typed one."""
        labels = self.labels.layer()
        source = self.source.layer()
        # A guess that saves typing: sample labels are called "phantom source mitochondria".
        if labels is not None and not self.classes.isModified():
            name = class_in_name(labels.name, source.name if source is not None else "")
            self.classes.setText(f"background, {name}")
        self._remark()

    @staticmethod
    def _image(choice: LayerChoice) -> Image | None:
        layer = choice.layer()
        return layer if isinstance(layer, Image) else None

    def _remark(self) -> None:
        """Point out unusual voxel sizes and missing layers."""
        remark = mask_remark(self._masks_as_images())
        # Without a target nothing is compared, and no size is needed yet.
        if self.target.layer() is not None and not remark:
            source = self.source_size.value() if self._source() is not None else None
            remark = size_remark(source, self.target_size.value())
        place = placement_remark(self._source(), self._labels())
        self.sizes.show_text(" ".join(filter(None, [remark, place])), "hint")
        alone = self.source_size.sections_are_independent
        self.files.show_of(
            [
                (self._source(), alone),
                (self._labels(), alone),
                (self.target.layer(), self.target_size.sections_are_independent),
            ]
        )
        self._complaint.review()
        self.grids.review()
        self._offer()

    def _offer(self) -> None:
        """Say what is missing, or let the user go on."""
        missing = self._missing()
        asks = self._labels() is not None and self.label_numbers.asks
        opened = self._session.opened
        wrong = [self._sizes_needed(), misplacement(self._source(), self._labels())]
        ready = not (missing or asks or any(wrong) or self._making.working)
        # Reading large volumes takes minutes: show that something happens.
        if self._making.working:
            self.missing.show_text("Reading the layers …", "note")
        elif ready and opened is not None and self._shows(opened):
            ready = False
            self.missing.show_text(
                "The open project is made of these layers. Choose others to start another one.",
                "note",
            )
        else:
            text = what_is_needed(
                missing,
                " ".join(filter(None, wrong)),
                asks=asks,
                one_image=len(self.target.layers()) == 1,
                unlabelled=opened is None
                and not self.model.on
                and self._source() is None
                and self._labels() is None,
            )
            self.missing.show_text(text, "hint")
        self.use.setEnabled(ready)
        if not ready:
            self.question.clear()

    def _sizes_needed(self) -> str:
        """Mark the boxes of voxel sizes that are missing, and say which they are."""
        sides = {"the source": (self.source, self.source_size)}
        sides["the target"] = (self.target, self.target_size)
        return sizes_needed(
            {
                volume: size.mark_missing(needed=choice.layer() is not None)
                for volume, (choice, size) in sides.items()
            }
        )

    def _shows(self, opened: OpenProject) -> bool:
        picks = self.picks()
        return is_open_project(opened, picks, (self.source_size, self.target_size)[-len(picks) :])

    def _masks_as_images(self) -> dict[str, str]:
        """The names of masks that were chosen as source or target."""
        choices = {"source": self.source, "target": self.target}
        layers = {domain: choice.layer() for domain, choice in choices.items()}
        return {
            domain: layer.name
            for domain, layer in layers.items()
            if layer is not None and self._masks(layer)
        }

    def _missing(self) -> list[str]:
        """The layers that still have to be chosen; a target alone is enough."""
        source = self._source()
        labels = self._labels()
        needed: dict[str, object] = {"a target image": self.target.layer()}
        if self.model.on:
            needed = {MODEL: self.model.path, **needed}
        if source is not None or labels is not None:
            needed = {"a source image": source, "labels of the source": labels, **needed}
        return [what for what, layer in needed.items() if layer is None]

    def _input(self) -> object:
        """All that the checks of a new project are about."""
        sizes = (self.source_size, self.target_size)
        layers = (self._source(), self._labels(), self.target.layer())
        grids = [(size.numbers, size.sections_are_independent) for size in sizes]
        texts = (self.classes.text(), self.folder.text())
        return layers, grids, self.label_numbers.meaning, texts, self.model.path

    def _measure_domain_gap(self) -> None:
        source = None if self.model.on else self._image(self.source)
        target = self._image(self.target)
        if target is not None:
            size = self.target_size
            image = ChosenImage(target, size.value(), size.sections_are_independent)
            self.model.compare(image)
        # Between an image and a mask it would be a large number without a meaning.
        if source is None or target is None or source is target or self._masks_as_images():
            self.domain_gap.measure(None)
            return
        sides = ((source, self.source_size), (target, self.target_size))
        first, second = (
            ChosenImage(image, size.value(), size.sections_are_independent) for image, size in sides
        )
        self.domain_gap.measure((first, second))

    # -- creating and opening a project --------------------------------------------------------

    def class_names(self) -> tuple[str, ...]:
        """The typed classes."""
        return tuple(name.strip() for name in self.classes.text().split(","))

    def picks(self) -> list[Pick]:
        """The chosen volumes, the source first."""
        source = self._source()
        labels = self._labels()
        target = self.target.layer()
        assert isinstance(target, Image)
        size = self.target_size
        independent = size.sections_are_independent
        picks = [Pick(target, "target", size.value(), sections_are_independent=independent)]
        if isinstance(source, Image) and isinstance(labels, Image | Labels):
            pick = Pick(
                source,
                "source",
                self.source_size.value(),
                labels=labels,
                meaning=self.label_numbers.meaning,
                sections_are_independent=self.source_size.sections_are_independent,
            )
            picks.insert(0, pick)
        return picks

    def use_layers(self) -> None:
        """Check everything, then create the project; an error leaves the disk unchanged."""
        # A running job writes into the project that would be closed.
        if self._session.runner.busy:
            self._session.say(self._session.runner.busy, "error")
            return
        opened = self._session.opened
        if opened is not None:
            self.question.about(opened, self.picks(), self.folder.text().strip())
            return
        self._make_project()

    def _make_project(self) -> None:
        self._making.start(self.picks(), self.class_names(), self.folder.path, self.model.path)

    def open_project(self, path: Path) -> None:
        """Open a project, perhaps a packed one, and show its volumes."""
        self.opening.open_project(path)

    def _show_project(self) -> None:
        opened = self._session.opened
        if opened is None:
            self._remark()
            return
        self.current.show_text(in_words(opened.project), "done")
        if not self.classes.isModified():
            self.classes.setText(", ".join(opened.project.classes))
        # A project may have been opened from its folder: show what it says of the volumes.
        self.grids.show_sizes()
        self._propose_folder()
        self._remark()
