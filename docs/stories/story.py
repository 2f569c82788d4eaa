"""What all stories have in common: a viewer with the dock, hands, and a camera."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import napari
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QComboBox, QScrollArea, QTableView, QWidget
from sklearn.metrics import jaccard_score

from docs.stories.film import Film
from docs.stories.painting import paint_truth
from napari_emda._gui.data.layer_widgets import VoxelSize
from napari_emda._gui.dock import Dock, make_dock
from napari_emda.io.read import open_labels
from napari_emda.synthetic.phantom import SPACING
from tests.viewer.hands import Hands, drop, press_mouse

# Seconds after which a step has certainly failed, on a machine that does other things as well.
PATIENCE = 1200
# Colours of a picture: a third of its size, and no difference to the eye.
COLOURS = 256
# For which a picture is seen in a film: enough to see what is new.
SECONDS = 1.6
# Patches of a round that are corrected: enough to retrain, and painted in a few minutes.
MOST_CORRECTED = 2


def wait(condition: Callable[[], object], what: str) -> None:
    """Let the viewer work until a condition holds."""
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise SystemExit(f"Waited {PATIENCE} s in vain until {what}.")
        QTest.qWait(20)


class Story:
    """One viewer, one dock, one pair of hands.

    Args:
        size: width and height of the window.
        steps: of the trainings.
        folder: for pictures.

    Attributes:
        spacing: voxel size of the volumes in nm, as it is typed.
        needs_data: whether it is about real volumes.
        most_corrected: patches of a round, None for as many as the story is about.
        data: folder of real volumes; None without any.
        film: gets a frame for each picture, and more while a model is trained; None for no film.
    """

    name = ""
    spacing: Sequence[float] = SPACING
    needs_data = False

    def __init__(self, size: Sequence[int], steps: int, folder: Path) -> None:
        self.size, self.steps, self.folder = size, steps, folder
        self.truth: Any = None
        self.data: Path | None = None
        self.most_corrected: int | None = None
        self.film: Film | None = None
        self.clicks = self.keys = self.pictures = 0
        self.steps_done: list[tuple[str, int, int, float]] = []
        self.start_napari()
        self.began = time.monotonic()

    def start_napari(self) -> None:
        """Start a viewer with the dock."""
        self.viewer = napari.Viewer()
        self.dock = self.open()
        # The demo fills the screen.
        self.viewer.window._qt_window.showNormal()
        self.viewer.window._qt_window.resize(*self.size)
        self.session = self.dock.session
        self.hands = Hands(self.viewer, self.session)
        wait(lambda: self.session.catalogue is not None, "the methods are read")

    def close_napari(self) -> None:
        """Close the viewer."""
        self.dock.shut_down()
        self.viewer.close()

    def open(self) -> Dock:
        """Open the dock as *Plugins > napari-emda* does."""
        dock = make_dock(self.viewer)
        self.viewer.window.add_dock_widget(dock, name="napari-emda", area="right")
        return dock

    # -- what a user does ------------------------------------------------------------------------

    def click(self, widget: QWidget | None) -> None:
        """Click in the middle of a widget, after scrolling to it."""
        assert widget is not None
        self.scroll_to(widget)
        assert widget.isEnabled() and not widget.visibleRegion().isEmpty(), widget
        self.clicks += 1
        press_mouse(widget, QPoint(widget.width() // 2, widget.height() // 2))

    def next(self, text: str) -> None:
        """Press the button for the next step, once it says this."""
        button = self.dock.guide.line.button
        wait(lambda: button.isEnabled() and button.text() == text, f"the next step is '{text}'")
        self.click(button)

    def open_panel(self, name: str) -> None:
        """Click on the heading of a panel that is not open already."""
        if not self.dock.drawers[name].isExpanded():
            self.click(self.dock.drawers[name].toggleButton())

    def fill(self, widget: Any, text: str) -> None:
        """Click into a box, and type over what it holds."""
        edit = widget.lineEdit() if hasattr(widget, "lineEdit") else widget
        self.click(edit)
        QTest.keyClick(edit, Qt.Key.Key_A, Qt.KeyboardModifier.ControlModifier)
        QTest.keyClicks(edit, text)
        QTest.keyClick(edit, Qt.Key.Key_Tab)
        self.keys += len(text) + 2
        QTest.qWait(1)

    def type_size(self, size: VoxelSize) -> None:
        """Click into the first box of a voxel size, and type; the Tab key leads to the others."""
        self.click(size._boxes[0].lineEdit())
        for box, number in zip(size._boxes, self.spacing, strict=True):
            QTest.keyClicks(box.lineEdit(), f"{number:g}")
            QTest.keyClick(box.lineEdit(), Qt.Key.Key_Tab)
            self.keys += len(f"{number:g}") + 1

    def choose(self, box: QComboBox, text: str) -> None:
        """Click on a list, and on one of its entries."""
        self.click(box)
        view = box.view()
        wait(view.isVisible, "the list is open")
        index = box.model().index(box.findText(text), box.modelColumn())
        view.scrollTo(index)
        # Qt takes a release soon after the press for the end of the click that opened the list.
        QTest.qWait(QApplication.doubleClickInterval() + 100)
        press_mouse(view.viewport(), view.visualRect(index).center())
        self.clicks += 1
        wait(lambda: box.currentText() == text and not view.isVisible(), f"'{text}' is chosen")

    def click_row(self, table: QTableView, line: int) -> None:
        """Scroll to a line of a table, and click it."""
        self.scroll_to(table)
        index = table.model().index(line, 0)
        table.scrollTo(index)
        press_mouse(table.viewport(), table.visualRect(index).center())
        self.clicks += 1

    def press(self, key: str) -> None:
        """Press a key while the mouse is on the canvas."""
        self.keys += 1
        self.hands.press(key)

    def decide_all(self, picture: str = "", correct: int = MOST_CORRECTED) -> None:
        """Correct the first open patches, and set the others aside as not sure.

        Args:
            picture: taken of the first patch that was corrected.
            correct: number of patches to correct.
        """
        if self.most_corrected is not None:
            correct = min(correct, self.most_corrected)
        patches = self.dock.annotate.patches
        while (region := patches.current) is not None:
            corrected = sum(region.annotated for region in patches.regions)
            if corrected < correct:
                paint_truth(self, region)
                if picture:
                    self.shot(picture)
                    picture = ""
            self.press("K" if corrected < correct else "Shift-J")

    def open_files(self, arrays: Mapping[str, NDArray[np.uint8]]) -> None:
        """Write volumes as TIFFs without voxel size, and drop them on the canvas."""
        folder = Path.home() / "em"
        folder.mkdir()
        for name, array in arrays.items():
            tifffile.imwrite(folder / name, array)
        drop(self.viewer, [folder / name for name in arrays])
        wait(lambda: len(self.viewer.layers) == len(arrays), "the files are open")

    # -- what the script does --------------------------------------------------------------------

    def scroll_to(self, widget: QWidget) -> None:
        """Bring a part of the dock into sight, as the wheel does."""
        area = self.dock.findChild(QScrollArea)
        QTest.qWait(50)
        if area is not None and area.isAncestorOf(widget):
            area.ensureWidgetVisible(widget, 0, 4)
        QTest.qWait(50)

    def shot(self, step: str) -> None:
        """Take a picture of the window."""
        QTest.qWait(700)
        self.pictures += 1
        path = self.folder / f"{self.name}-{self.pictures:02}-{step}-{self.size[0]}.png"
        self.viewer.window.screenshot(str(path), canvas_only=False, flash=False)
        with Image.open(path) as picture:
            method = Image.Quantize.MAXCOVERAGE
            picture.convert("RGB").quantize(COLOURS, method=method).save(path, optimize=True)
        if self.film is not None:
            self.film.add(path, SECONDS)
        line = self.dock.guide.line
        print(f"{path.name} {picture.size} [{line.sentence.text()}] ({line.button.text()})")
        print(f"    {self.dock.notices.text()}")

    def frame(self) -> None:
        """Take a short frame for the film, which is no picture of its own."""
        if self.film is None:
            return
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "frame.png"
            self.viewer.window.screenshot(str(path), canvas_only=False, flash=False)
            self.film.add(path, SECONDS / 2)

    def idle(self, what: str) -> None:
        """Wait until the running job has ended."""
        wait(lambda: self.session.runner.job is None, what)
        QTest.qWait(300)

    def output(self, role: str) -> Any:
        """A layer of the target, None as long as there is none."""
        return self.session.opened.output(role, self.session.opened.target)

    def set_up_training(self, method: str = "") -> None:
        """Choose the smallest profile, few steps, and perhaps another method."""
        panel = self.dock.train
        if method:
            self.choose(panel.method, method)
        self.choose(panel.main["profile"].native, "test")
        self.fill(panel.main["steps"].native, str(self.steps))

    def train(self, button: str = "Start") -> None:
        """Press *Start* or *Retrain*; take pictures of the training and of its end."""
        self.next(button)
        wait(lambda: self.output("preview") is not None, "the first preview is drawn")
        strips = (self.dock.train.strip, self.dock.annotate.retrain.strip)
        for share in (0.1, 0.2, 0.4, 0.6) if self.film is not None else (0.6,):
            wait(
                lambda least=share: any(
                    s.bar.value() > least * s.bar.maximum() > 0 for s in strips
                ),
                "most is done",
            )
            if share < 0.6:
                self.frame()
        self.shot("training" if button == "Start" else "retraining")
        self.idle("the training ends")

    def retrain(self) -> None:
        """Let the model learn from the patches."""
        self.train("Retrain")

    def predict(self) -> None:
        """Segment the target."""
        self.next("Predict")
        self.idle("the prediction ends")
        self.shot("predicted")

    def export(self) -> None:
        """Write the mask where the dock proposes to."""
        self.next("Export")
        self.idle("the export ends")
        self.shot("exported")

    def overlap(self) -> float:
        """IoU of the exported mask, whatever its class, with the truth."""
        found = np.asarray(open_labels(self.dock.export.target()).array[:])
        return float(jaccard_score(self.truth.ravel() > 0, found.ravel() > 0))

    def chapters(self) -> Sequence[Callable[[], None]]:
        """The steps of the story."""
        raise NotImplementedError

    def play(self, most: int | None = None) -> None:
        """Go through the first steps, by default all; print clicks, keys and seconds of each."""
        for chapter in self.chapters()[:most]:
            before, keys, began = self.clicks, self.keys, time.monotonic()
            chapter()
            title = chapter.__name__.replace("_", " ")
            spent = time.monotonic() - began
            self.steps_done.append((title, self.clicks - before, self.keys - keys, spent))
        print(f"\n| {self.name} | clicks | keys | seconds |\n|---|---|---|---|")
        for title, clicks, keys, spent in self.steps_done:
            print(f"| {title} | {clicks} | {keys} | {spent:.0f} |")
        print(f"| all | {self.clicks} | {self.keys} | {time.monotonic() - self.began:.0f} |\n")
        self.close_napari()
