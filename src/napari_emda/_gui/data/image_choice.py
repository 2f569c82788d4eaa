"""The choice of a channel, time or scene where a layer or its file has several."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

from napari.layers import Image, Labels, Layer
from psygnal import Signal
from qtpy.QtCore import QSignalBlocker
from qtpy.QtWidgets import QComboBox, QFormLayout, QWidget

from napari_emda._gui.common.layer_images import Images, images_of
from napari_emda._gui.common.layer_volumes import location_of, source_of
from napari_emda._gui.common.number_boxes import WholeNumberBox
from napari_emda._gui.common.widgets import Sentence, button, column, labelled, narrow, show_row
from napari_emda._gui.session import Session
from napari_emda.data.names import in_print
from napari_emda.errors import listed
from napari_emda.io.location import Part, SeveralImages, axis_word


class ImageChoice(QWidget):
    """Asks which image of a layer is meant, and opens it as a layer of its own.

    Hidden while every layer is one image.

    Args:
        session: of the dock.
        stop: set when the dock is closed.

    Attributes:
        sentence: what there is to choose.
        layers: the layers that hold several images.
        boxes: by the word for what is chosen, such as ``channel``.
        open: the button that opens the chosen image.
    """

    opened = Signal(Image)
    """The user has opened an image as a layer."""

    def __init__(self, session: Session, stop: threading.Event) -> None:
        super().__init__()
        self._session = session
        self._stop = stop
        self._found: list[Images] = []
        self._offered: list[Images] = []
        self._asked: SeveralImages | None = None
        self.sentence = Sentence()
        self.layers = narrow(QComboBox())
        self.layers.setToolTip("The layers that hold several images.")
        self.boxes: dict[str, WholeNumberBox | QComboBox] = {}
        self._holder = QWidget()
        self._form = QFormLayout(self._holder)
        self._form.setContentsMargins(0, 0, 0, 0)
        self._form.setSpacing(4)
        self.open = button(
            "Open this image", "Show the chosen image as a layer of its own.", self.open_image
        )
        column(
            self,
            self.sentence,
            labelled(("image of", self.layers)),
            self._holder,
            self.open,
            margin=0,
        )
        self.layers.currentIndexChanged.connect(lambda _: self._on_layer())
        events = session.viewer.layers.events
        events.inserted.connect(self._on_inserted)
        events.removed.connect(self._on_removed)
        session.closing.connect(self._close)
        session.project_changed.connect(self._offer)
        self._offer()
        for layer in session.viewer.layers:
            self._look_at(layer)

    def _close(self) -> None:
        events = self._session.viewer.layers.events
        events.inserted.disconnect(self._on_inserted)
        events.removed.disconnect(self._on_removed)

    # -- finding ---------------------------------------------------------------------------------

    def _on_inserted(self, event: Any) -> None:
        self._look_at(event.value)
        # It may be the last image of a file that was not open yet.
        self._offer()

    def _on_removed(self, event: Any) -> None:
        self._found = [images for images in self._found if images.layer is not event.value]
        self._offer()

    def _look_at(self, layer: Layer) -> None:
        if (
            isinstance(layer, Image | Labels)
            and not self._is_used(layer)
            and not self._stop.is_set()
        ):
            # In the background: headers are read, perhaps over a network.
            self._session.in_background(
                partial(images_of, layer), self._on_found, lambda text: None
            )

    def _on_found(self, images: Images | None) -> None:
        if images is not None and images.layer in self._session.viewer.layers:
            self._found.append(images)
            self._offer()

    def _is_used(self, layer: Layer) -> bool:
        """Whether a layer belongs to the open project."""
        opened = self._session.opened
        return opened is not None and (opened.is_output(layer) or opened.is_volume(layer))

    def _offer(self) -> None:
        """List the layers of which an image is not open yet, once for each file."""
        before = self._chosen
        sources = [source_of(layer) for layer in self._session.viewer.layers]
        offered: list[Images] = []
        for images in self._found:
            is_new = images.file is None or images.file not in [other.file for other in offered]
            shown = 0 if images.file is None else sources.count(str(images.file))
            if is_new and shown < images.question.count and not self._is_used(images.layer):
                offered.append(images)
        self._offered = offered
        with QSignalBlocker(self.layers):
            self.layers.clear()
            self.layers.addItems([images.layer.name for images in offered])
            if before in offered:
                self.layers.setCurrentIndex(offered.index(before))
        show_row(self.layers, shown=len(offered) > 1)
        # What is half chosen stays.
        if before is None or self._chosen is not before:
            self._on_layer()
        self.setVisible(bool(offered))

    # -- asking ----------------------------------------------------------------------------------

    @property
    def _chosen(self) -> Images | None:
        index = self.layers.currentIndex()
        return self._offered[index] if 0 <= index < len(self._offered) else None

    def _on_layer(self) -> None:
        if self._chosen is not None:
            self._ask(self._chosen.question)

    def _ask(self, asked: SeveralImages) -> None:
        """Show a box for each axis, or one for the images of a file."""
        assert self._chosen is not None
        self._asked = asked
        while self._form.rowCount():
            self._form.removeRow(0)
        self.boxes = {}
        for axis, length in asked.axes.items():
            box = WholeNumberBox()
            box.setRange(0, length - 1)
            box.setToolTip(f"From 0 to {length - 1}.")
            self._add_box(axis_word(axis), box)
        if not asked.axes:
            names = narrow(QComboBox())
            names.addItems([in_print(title) for title in asked.titles])
            names.setToolTip("The images in the file.")
            self._add_box("image", names)
        counts = [_counted(axis_word(axis), length) for axis, length in asked.axes.items()]
        what = listed(counts or [f"{asked.count} images"])
        self.sentence.show_text(
            f"'{self._chosen.layer.name}' holds {what}: choose the one that you want to use.",
            "hint",
        )

    def _add_box(self, word: str, box: WholeNumberBox | QComboBox) -> None:
        box.setAccessibleName(word)
        self._form.addRow(word, box)
        self.boxes[word] = box

    def _part(self, asked: SeveralImages) -> Part:
        """What the boxes say."""
        if not asked.axes:
            box = self.boxes["image"]
            assert isinstance(box, QComboBox)
            return asked.parts[box.currentIndex()]
        first = asked.parts[0]
        numbers = (box.value() for box in self.boxes.values() if isinstance(box, WholeNumberBox))
        return Part(first.inside, {**first.at, **dict(zip(asked.axes, numbers, strict=True))})

    def open_image(self) -> None:
        """Show the chosen image as a layer, in place of all of them."""
        images = self._chosen
        if images is None or self._asked is None:
            return
        part = self._part(self._asked)
        layers = self._session.viewer.layers
        with self._session.showing_errors():
            try:
                new = images.open(part)
            except SeveralImages as further:
                self._ask(further)
                return
            already = [layer for layer in layers if _is_same(layer, new)]
            if already:
                self._session.say(f"This image is the layer '{already[0].name}'.", "hint")
                return
            images.layer.visible = False
            self._session.viewer.add_layer(new)
            if isinstance(new, Image):
                self.opened.emit(new)


def _is_same(layer: Layer, other: Layer) -> bool:
    """Whether two layers were opened from the same image of a file."""
    path = location_of(other)
    return path is not None and layer.ndim <= 3 and location_of(layer) == path


def _counted(word: str, length: int) -> str:
    """How many positions an axis has, in words: 3 channels."""
    # Axes that nobody has named are numbered.
    return f"{length} positions along {word}" if word.startswith("axis") else f"{length} {word}s"
