"""Choice of a layer, and of its voxel size."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from napari.components import ViewerModel
from napari.layers import Layer
from psygnal import Signal
from qtpy.QtCore import QSignalBlocker
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QLabel,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_emda._gui.common.number_boxes import LengthBox
from napari_emda._gui.common.widgets import TONES, narrow, row
from napari_emda.data.units import LARGEST_SIZE
from napari_emda.io.units import Sizes

# napari's theme makes spin boxes wider than three of them fit into a narrow dock.
_NARROW = "QAbstractSpinBox { min-width: 3em; padding: 1px 3px; }"
# A number that is missing. With the keyboard focus, the box has the outline of all controls.
_MARKED = f"QAbstractSpinBox:!focus {{ border: 2px solid {TONES['hint']}; }}"


class LayerChoice(QComboBox):
    """A combo box of the viewer's layers that can be used.

    Args:
        viewer: whose layers are listed.
        kind: the type of layer.
        refusal: why a layer cannot be used, None if it can.
        none: the entry for no layer; empty if a layer is required.
        also: tells layers of other types that are listed as well, such as masks that were opened as
            images; they are marked with their type.

    Attributes:
        left_out: why layers of the right type are not listed, by their names.
        guessed: whether the choice is a guess, which may change when more layers are opened.
    """

    chosen = Signal()

    def __init__(
        self,
        viewer: ViewerModel,
        kind: type[Layer],
        refusal: Callable[[Layer], str | None],
        none: str = "",
        also: Callable[[Layer], bool] = lambda layer: False,
    ) -> None:
        super().__init__()
        self._viewer = viewer
        self._kind = kind
        self._also = also
        self._refusal = refusal
        # Entries before the layers.
        self._first = [none] if none else []
        self.setPlaceholderText(none or "choose a layer")
        self._layers: list[Layer] = []
        self.left_out: dict[str, str] = {}
        self.guessed = True
        narrow(self)
        self.currentIndexChanged.connect(lambda _: self._on_index())

    def _on_index(self) -> None:
        # `guess` sets it again after this.
        self.guessed = False
        self.chosen.emit()

    def refresh(self, offered: Callable[[Layer], bool] = lambda layer: True) -> None:
        """Read the viewer's layers again, keeping the choice if it is still there."""
        before = self.layer()
        declined = self.declined
        fitting = [
            layer
            for layer in self._viewer.layers
            if offered(layer) and (isinstance(layer, self._kind) or self._also(layer))
        ]
        self.left_out = {
            layer.name: why for layer in fitting if (why := self._refusal(layer)) is not None
        }
        self._layers = [layer for layer in fitting if layer.name not in self.left_out]
        # Blocked, because clearing and refilling would report choices that the user has not made.
        with QSignalBlocker(self):
            self.clear()
            self.addItems([*self._first, *map(self._entry, self._layers)])
            self.choose(before)
            # "No layer" is a choice of its own and must survive a new layer.
            if declined:
                self.setCurrentIndex(0)
        # Emitted once, and only if another layer is chosen now.
        if self.layer() is not before:
            self.guessed = True
            self.chosen.emit()

    def _entry(self, layer: Layer) -> str:
        kind = "" if isinstance(layer, self._kind) else f" ({type(layer).__name__.lower()})"
        return layer.name + kind

    @property
    def left_out_in_words(self) -> str:
        """Why layers are not listed, a sentence for each: users look for what is missing."""
        return not_offered(self.left_out)

    def enables(self, widget: QWidget) -> None:
        """Enable a widget, which asks about the chosen layer, while one is chosen."""
        self.chosen.connect(lambda: widget.setEnabled(self.layer() is not None))
        widget.setEnabled(self.layer() is not None)

    def layer(self) -> Layer | None:
        """The chosen layer; None if none is chosen."""
        index = self.currentIndex() - len(self._first)
        return self._layers[index] if 0 <= index < len(self._layers) else None

    def layers(self) -> list[Layer]:
        """The listed layers."""
        return list(self._layers)

    def choose(self, layer: Layer | None) -> None:
        """Choose a layer; None chooses nothing."""
        self.setCurrentIndex(
            self._layers.index(layer) + len(self._first) if layer in self._layers else -1
        )

    def guess(self, layer: Layer | None) -> None:
        """Choose a layer unless the user has chosen one, or none."""
        if self.guessed and not self.declined:
            self.choose(layer)
            self.guessed = True

    def keep(self) -> None:
        """Keep the choice when more layers are opened."""
        self.guessed = False

    @property
    def declined(self) -> bool:
        """Whether the user has chosen the entry for no layer."""
        return bool(self._first) and self.currentIndex() == 0


def not_offered(left_out: Mapping[str, str]) -> str:
    """A sentence for each layer that is not offered, from its name and the reason."""
    return " ".join(f"'{name}' is not offered: it {why}." for name, why in left_out.items())


class VoxelSize(QWidget):
    """Three numbers z, y, x in nm, 0 if unknown, and whether sections are independent.

    Args:
        what: begins the names that screen readers say, such as ``voxel size of the source``.
    """

    edited = Signal()
    """Another voxel size is shown, or was typed."""
    typed = Signal()
    """The user has typed."""

    def __init__(self, what: str = "voxel size") -> None:
        super().__init__()
        self._boxes: list[LengthBox] = []
        cells: list[tuple[QWidget, int]] = []
        for axis in "zyx":
            box = LengthBox()
            # Six decimals keep what files state, such as 4.6123 nm.
            box.setRange(0, LARGEST_SIZE)
            box.setDecimals(6)
            box.setButtonSymbols(LengthBox.ButtonSymbols.NoButtons)
            box.setToolTip(_tip(axis))
            box.setAccessibleName(f"{what} along {axis} in nanometres")
            box.setStyleSheet(_NARROW)
            box.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
            box.valueChanged.connect(lambda _: self.edited.emit())
            edit = box.lineEdit()
            assert edit is not None
            edit.textEdited.connect(lambda _: self.typed.emit())
            self._boxes.append(box)
            # Beside the box rather than in it, where it would mix with what is typed.
            cells += [(QLabel(axis), 0), (box, 1)]
        self.is_depth = QCheckBox("z is depth")
        self.is_depth.setChecked(True)
        self.is_depth.setToolTip(
            "Untick it for a stack of independent images, such as fields of view: neighbouring "
            "sections are then not compared, and objects end with their section."
        )
        self.is_depth.toggled.connect(self._boxes[0].setEnabled)
        self.is_depth.toggled.connect(lambda _: self.edited.emit())
        lines = QVBoxLayout(self)
        lines.setContentsMargins(0, 0, 0, 0)
        lines.setSpacing(2)
        # Two rows of their own, because beside a label they would not fit into a narrow dock.
        lines.addWidget(row(None, (QLabel("voxel size"), 1), (self.is_depth, 0)))
        lines.addWidget(row(None, *cells, (QLabel("nm"), 0)))

    @property
    def sections_are_independent(self) -> bool:
        """Whether the sections are independent images."""
        return not self.is_depth.isChecked()

    @property
    def numbers(self) -> tuple[float, ...]:
        """The three numbers as they are shown, 0 where none is."""
        return tuple(box.value() for box in self._boxes)

    def value(self) -> tuple[float, float, float] | None:
        """The voxel size (z, y, x) in nm; None while a number is missing."""
        z, y, x = self.numbers
        # Independent images have no distance; a number is stored all the same.
        if self.sections_are_independent:
            z = z or y
        return (z, y, x) if z and y and x else None

    def missing(self) -> list[str]:
        """The axes along which the number is missing."""
        values = zip("zyx", self.numbers, strict=True)
        # Independent images have no distance.
        needed = "yx" if self.sections_are_independent else "zyx"
        return [axis for axis, value in values if axis in needed and not value]

    def mark_missing(self, *, needed: bool) -> list[str]:
        """Mark the boxes whose numbers are needed and missing; returns their axes."""
        missing = self.missing() if needed else []
        for axis, box in zip("zyx", self._boxes, strict=True):
            style = _NARROW + _MARKED if axis in missing else _NARROW
            # Setting it makes Qt lay out the panel again.
            if style != box.styleSheet():
                box.setStyleSheet(style)
                tip = f"Missing: type it here. {_tip(axis)}" if axis in missing else _tip(axis)
                box.setToolTip(tip)
                box.setAccessibleDescription(tip)
        return missing

    def set_value(self, sizes: Sizes | None) -> None:
        """Show a voxel size (z, y, x) in nm; None where it is unknown."""
        for box, size in zip(self._boxes, sizes or (None, None, None), strict=True):
            # One signal for the three numbers, not one each.
            with QSignalBlocker(box):
                box.setValue(size or 0)
        self.edited.emit()


def _tip(axis: str) -> str:
    return f"Size of a voxel along {axis}, in nanometres."
