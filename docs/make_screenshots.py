r"""Plays three first hours in a real viewer, by clicks and keys alone, and takes the pictures.

    xvfb-run -a -s "-screen 0 1366x768x24" python -m docs.make_screenshots
    xvfb-run -a -s "-screen 0 1024x768x24" python -m docs.make_screenshots --size 1024 768

The stories: ``phantom`` (what ``napari-emda demo`` opens), ``own`` (one's own TIFFs, without voxel
size and with the mask opened as an image) and ``no-labels``. A picture is called after its story,
step and size. Clicks and seconds are printed for each step; keys count apart from clicks.

The hidden truth of the phantom decides what is painted and which clusters are clicked. Trainings
are short: the pictures show the way, not what the methods can do.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import napari
import numpy as np
import tifffile
from PIL import Image
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QComboBox, QScrollArea, QWidget
from scipy.ndimage import distance_transform_edt
from sklearn.metrics import jaccard_score

from napari_emda._gui.common.adapters import Placement
from napari_emda._gui.demo import show_demo
from napari_emda._gui.dock import Dock, make_dock
from napari_emda.data.probabilities import class_ids
from napari_emda.io.read import open_labels
from napari_emda.synthetic.phantom import SPACING, phantom
from napari_emda.synthetic.sample_pair import sample_volume
from tests.viewer.hands import Hands, drop, press_mouse

IMAGES = Path(__file__).parent / "images"
# A laptop, the smallest screen on which everything must fit beside a canvas of 700 pixels.
SIZE = (1366, 768)
# Voxels of the volume without labels and of the files; the demo has its own.
SMALL = (16, 192, 192)
# Seconds after which a step has certainly failed, on a machine that does other things as well.
PATIENCE = 1200
# Colours of a picture: a third of its size, and no difference to the eye.
COLOURS = 256


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
    """

    name = ""

    def __init__(self, size: Sequence[int], steps: int, folder: Path) -> None:
        self.size, self.steps, self.folder = size, steps, folder
        self.viewer = napari.Viewer()
        self.dock = self.open()
        # The demo fills the screen.
        self.viewer.window._qt_window.showNormal()
        self.viewer.window._qt_window.resize(*size)
        self.session = self.dock.session
        self.hands = Hands(self.viewer, self.session)
        self.truth: Any = None
        self.clicks = self.keys = self.pictures = 0
        self.steps_done: list[tuple[str, int, int, float]] = []
        wait(lambda: self.session.catalogue is not None, "the methods are read")
        self.began = time.monotonic()

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

    def press(self, key: str) -> None:
        """Press a key while the mouse is on the canvas."""
        self.keys += 1
        self.hands.press(key)

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
        line = self.dock.guide.line
        print(f"{path.name} {picture.size} [{line.sentence.text()}] ({line.button.text()})")
        print(f"    {self.dock.notices.text()}")

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
        wait(lambda: any(s.bar.value() > 0.6 * s.bar.maximum() > 0 for s in strips), "most is done")
        self.shot("training" if button == "Start" else "retraining")
        self.idle("the training ends")

    def export(self) -> None:
        """Write the mask where the dock proposes to."""
        self.next("Export")
        self.idle("the export ends")

    def chapters(self) -> Sequence[Callable[[], None]]:
        """The steps of the story."""
        raise NotImplementedError

    def play(self) -> None:
        """Go through all steps; print clicks, keys and seconds of each."""
        for chapter in self.chapters():
            before, keys, began = self.clicks, self.keys, time.monotonic()
            chapter()
            title = chapter.__name__.replace("_", " ")
            spent = time.monotonic() - began
            self.steps_done.append((title, self.clicks - before, self.keys - keys, spent))
        print(f"\n| {self.name} | clicks | keys | seconds |\n|---|---|---|---|")
        for title, clicks, keys, spent in self.steps_done:
            print(f"| {title} | {clicks} | {keys} | {spent:.0f} |")
        print(f"| all | {self.clicks} | {self.keys} | {time.monotonic() - self.began:.0f} |\n")
        self.dock.shut_down()
        self.viewer.close()

    # -- painting --------------------------------------------------------------------------------

    def decide_all(self, picture: str = "") -> None:
        """Correct the open patches one after the other; mark the last one as not sure."""
        patches = self.dock.annotate.patches
        while (region := patches.current) is not None:
            self.correct(region)
            if picture:
                self.shot(picture)
                picture = ""
            last = sum(region.state == "suggested" for region in patches.regions) == 1
            self.press("Shift-J" if last and region.strategy != "audit" else "K")

    def correct(self, region: Any) -> None:
        """Paint what is wrong in a patch, row by row, with the smallest brush."""
        volume, slices = region.volume, region.voxels.slices
        paint = self.dock.annotate.patches.paint
        shown = np.maximum(np.asarray(paint.draft(volume)[slices])[0], 1)
        right = np.asarray(self.truth[slices])[0] + 1
        while self.dock.annotate.tools.brush != 1:
            self.press("Q")
        z, top, left = region.voxels.start
        for number in np.unique(right).tolist():
            wanted = (right == number) & (shown != number)
            if wanted.any():
                self.press(str(number))
            for y, first, last in runs(wanted):
                line = [(z, top + y, left + first), (z, top + y, left + last)]
                self.hands.stroke(volume, line)


def runs(mask: np.ndarray) -> list[tuple[int, int, int]]:
    """Row, first and last column of the runs of True."""
    edges = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    starts, stops = np.argwhere(edges == 1), np.argwhere(edges == -1)
    return [(int(y), int(a), int(b) - 1) for (y, a), (_, b) in zip(starts, stops, strict=True)]


class Phantom(Story):
    """The whole loop on the synthetic pair, with an audit at the end."""

    name = "phantom"

    def open(self) -> Dock:
        """Open the viewer as ``napari-emda demo`` does."""
        return show_demo(self.viewer)

    def chapters(self) -> Sequence[Callable[[], None]]:
        """From the layers to an audited model."""
        self.truth = sample_volume("target")[1]
        return (
            self.choose_the_layers,
            self.train_a_model,
            self.correct_patches,
            self.retrain,
            self.predict,
            self.export,
            self.draw_a_patch,
            self.audit,
        )

    def choose_the_layers(self) -> None:
        """All is chosen already."""
        wait(lambda: bool(self.dock.data.domain_gap.text()), "the domain gap is measured")
        self.shot("data")
        self.next("Use these layers")
        wait(lambda: self.session.opened is not None, "the project is made")

    def train_a_model(self) -> None:
        """Adapt with the proposed method."""
        self.shot("train")
        self.set_up_training()
        self.train()
        self.shot("trained")

    def correct_patches(self) -> None:
        """Get patches suggested, and correct them."""
        panel = self.dock.annotate
        self.open_panel("Annotate")
        self.fill(panel.suggest.main["count"].native, "5")
        self.fill(panel.suggest.main["patch"].native, "64")
        self.next("Suggest patches")
        self.idle("the patches are suggested")
        self.shot("suggested")
        self.next("Next patch")
        self.shot("patch")
        self.decide_all("corrected")
        self.shot("round")

    def retrain(self) -> None:
        """Let the model learn from the patches."""
        self.train("Retrain")

    def predict(self) -> None:
        """Segment the target."""
        self.next("Predict")
        self.idle("the prediction ends")
        self.shot("predicted")

    def export(self) -> None:
        """Write the mask."""
        super().export()
        self.shot("exported")

    def draw_a_patch(self) -> None:
        """Draw a patch in the middle of the section on view, and give it up again."""
        volume = self.session.opened.target
        self.open_panel("Annotate")
        y, x = (n // 2 for n in self.truth.shape[1:])
        z = self.session.opened.section_on_view(volume).start[0]
        self.press("W")
        self.hands.stroke(volume, [(z, y - 30, x - 40), (z, y, x), (z, y + 30, x + 30)])
        wait(lambda: self.dock.annotate.patches.current is not None, "the patch is drawn")
        self.shot("own-patch")
        self.correct(self.dock.annotate.patches.current)
        self.press("K")

    def audit(self) -> None:
        """Measure the model on random patches that are painted from nothing."""
        panel = self.dock.annotate
        if not panel.curve_drawer.isExpanded():
            self.click(panel.curve_drawer.toggleButton())
        self.fill(panel.curve.count, "4")
        self.click(panel.curve.start)
        self.idle("the audit is drawn")
        self.next("Next patch")
        self.shot("audit")
        self.decide_all()
        if not panel.curve_drawer.isExpanded():
            self.click(panel.curve_drawer.toggleButton())
        self.scroll_to(panel.curve)
        self.shot("audited")


class OwnFiles(Story):
    """From three TIFFs without voxel size to a first mask; what README says, and nothing more."""

    name = "own"

    def chapters(self) -> Sequence[Callable[[], None]]:
        """From the files to a mask."""
        return (self.open_files, self.type_the_voxel_sizes, self.start_training, self.first_mask)

    def open_files(self) -> None:
        """Drop the files on the canvas."""
        folder = Path.home() / "em"
        folder.mkdir()
        source, labels = phantom(SMALL, "source", 0)
        target, self.truth = phantom(SMALL, "target", 0)
        # As a mask is often saved, which napari then opens as an image.
        arrays = {"old.tif": source, "old_mitochondria.tif": labels * 255, "new.tif": target}
        for name, array in arrays.items():
            tifffile.imwrite(folder / name, array)
        drop(self.viewer, [folder / name for name in arrays])
        wait(lambda: len(self.viewer.layers) == len(arrays), "the files are open")
        self.shot("opened")

    def type_the_voxel_sizes(self) -> None:
        """One click into each volume's first box, the Tab key for the others."""
        for size in (self.dock.data.source_size, self.dock.data.target_size):
            self.click(size._boxes[0].lineEdit())
            for box, number in zip(size._boxes, SPACING, strict=True):
                QTest.keyClicks(box.lineEdit(), f"{number:g}")
                QTest.keyClick(box.lineEdit(), Qt.Key.Key_Tab)
                self.keys += len(f"{number:g}") + 1
        wait(lambda: bool(self.dock.data.domain_gap.text()), "the domain gap is measured")
        self.shot("sizes")
        self.next("Use these layers")
        wait(lambda: self.session.opened is not None, "the project is made")

    def start_training(self) -> None:
        """With the proposed method; the script alone shortens it."""
        clicks = self.clicks
        self.set_up_training()
        # A user takes the proposed profile and steps.
        self.clicks = clicks
        print(f"{self.clicks + 1} clicks until a training starts")
        self.train()

    def first_mask(self) -> None:
        """Predict at once, and export."""
        self.open_panel("Predict")
        self.click(self.dock.predict.start)
        self.idle("the prediction ends")
        self.shot("mask")
        self.open_panel("Export")
        self.click(self.dock.export.start)
        self.idle("the export ends")
        self.shot("exported")
        found = np.asarray(open_labels(self.dock.export.target()).array[:])
        print(f"IoU of the first mask: {jaccard_score(self.truth.ravel(), found.ravel()):.2f}")


class NoLabels(Story):
    """One volume without labels: clusters, names, corrections, retraining, export."""

    name = "no-labels"
    classes = ("mitochondria",)

    def chapters(self) -> Sequence[Callable[[], None]]:
        """From the volume to a mask."""
        return (
            self.begin,
            self.train_without_labels,
            self.name_the_clusters,
            self.correct_patches,
            self.retrain,
            self.predict,
            self.export,
        )

    def begin(self) -> None:
        """Make a project of one volume without labels."""
        image, self.truth = phantom(SMALL, "target", 0)
        self.viewer.add_image(image, name="new volume", **Placement(SPACING).arguments())
        self.fill(self.dock.data.classes, ", ".join(("background", *self.classes)))
        self.shot("data")
        self.next("Use these layers")
        wait(lambda: self.session.opened is not None, "the project is made")

    def train_without_labels(self) -> None:
        """Find clusters."""
        self.set_up_training("" if self.dock.train.method.currentText() == "iic" else "iic")
        self.next("Start")
        self.idle("the training ends")
        self.shot("trained")

    def name_the_clusters(self) -> None:
        """Click on the two clusters in which the structure's share is largest."""
        naming = self.dock.data.naming
        self.next("Name clusters")
        self.idle("the clusters are found")
        wait(naming.pick.isEnabled, "clusters can be picked")
        self.shot("clusters")
        self.click(naming.pick)
        volume = self.session.opened.target
        z = self.session.opened.section_on_view(volume).start[0]
        ids = class_ids(np.asarray(naming.model.clusters()[:, z]))
        truth = self.truth[z] > 0
        everywhere = np.bincount(ids.ravel())
        share = np.bincount(ids[truth], minlength=len(everywhere)) / everywhere.clip(1)
        # Clusters too small to be clicked at.
        share[everywhere < 0.005 * ids.size] = 0
        for cluster in np.argsort(-share)[:2]:
            depth = distance_transform_edt(truth & (ids == cluster))
            y, x = np.unravel_index(np.argmax(depth), depth.shape)
            self.hands.click(volume, (z, y, x))
            self.clicks += 1
        self.press("Escape")
        print(naming.summary.text())
        self.scroll_to(naming.use)
        self.shot("named")

    def correct_patches(self) -> None:
        """Correct patches that begin with the named clusters."""
        self.next("Use as labels")
        self.idle("the patches are suggested")
        self.next("Next patch")
        self.shot("patch")
        self.decide_all()

    def retrain(self) -> None:
        """Learn from the patches."""
        self.next("Retrain")
        self.idle("the training ends")

    def predict(self) -> None:
        """Segment the volume."""
        self.next("Predict")
        self.idle("the prediction ends")
        self.shot("predicted")

    def export(self) -> None:
        """Write the mask."""
        super().export()
        found = np.asarray(open_labels(self.dock.export.target()).array[:])
        print(f"IoU of the mask: {jaccard_score(self.truth.ravel() > 0, found.ravel() > 0):.2f}")


STORIES = {story.name: story for story in (Phantom, OwnFiles, NoLabels)}


def main() -> None:
    """Play the chosen stories one after the other."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--story", nargs="+", choices=STORIES, default=list(STORIES))
    parser.add_argument("--size", type=int, nargs=2, default=SIZE, metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--steps", type=int, default=150, help="of the trainings")
    parser.add_argument("--to", type=Path, default=IMAGES, help="folder for the pictures")
    parser.add_argument("--play", choices=STORIES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.to.mkdir(parents=True, exist_ok=True)
    if options.play:
        STORIES[options.play](options.size, options.steps, options.to).play()
        return
    for name in options.story:
        # A home of its own: the pictures show ~, napari starts as on the first day, and no folder
        # of this machine is touched. Set before napari is imported, which looks for it then.
        with tempfile.TemporaryDirectory() as home:
            command = [sys.executable, "-m", "docs.make_screenshots", *sys.argv[1:], "--play", name]
            environment = {**os.environ, "HOME": home, "USERPROFILE": home}
            subprocess.run(command, env=environment, check=True)


if __name__ == "__main__":
    main()
