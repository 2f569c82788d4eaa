r"""Runs the whole workflow in a viewer and takes the pictures of the documentation.

    python -m docs.make_screenshots                       # on the phantom
    python -m docs.make_screenshots --prefix medulla --source VNC.tif --labels VNC-MITO.tif \
        --spacing 50 4.6 4.6 \
        --target MEDULLA.tif --target-spacing 10 10 10 --every 4 --bin 2 --target-bin 1 --steps 400

It annotates two rounds with real key presses and mouse strokes. It paints the truth if it is known.
Otherwise it only smooths the model's prediction, and takes no picture of the learning curve.

Without a screen: ``xvfb-run -s "-screen 0 1600x1000x24" python -m docs.make_screenshots``.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import napari
import numpy as np
from PIL import Image
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QScrollArea, QWidget
from skimage.morphology import closing, disk, opening, remove_small_holes, remove_small_objects

from napari_emda._gui.common.adapters import Placement, look_at
from napari_emda._gui.dock import Dock, make_dock
from napari_emda.data.box import Box
from napari_emda.io.read import open_image, open_labels
from napari_emda.synthetic.phantom import SPACING, phantom
from tests.viewer.hands import Hands

SIZE = (1500, 900)
DOCK_WIDTH = 440
IMAGES = Path(__file__).parent / "images"


def wait(condition: Callable[[], bool], what: str, seconds: float = 900) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise SystemExit(f"Waited {seconds:.0f} s in vain until {what}.")
        QTest.qWait(20)


class Story:
    """One viewer, one dock, one camera."""

    def __init__(self, prefix: str, steps: int, profile: str) -> None:
        self.prefix, self.steps, self.profile = prefix, steps, profile
        self.viewer = napari.Viewer()
        self.viewer.window.resize(*SIZE)
        self.dock: Dock = make_dock(self.viewer)
        holder = self.viewer.window.add_dock_widget(self.dock, name="napari-emda", area="right")
        holder.parent().resizeDocks([holder], [DOCK_WIDTH], Qt.Orientation.Horizontal)
        self.truth: Any = None
        self.hands = Hands(self.viewer, self.dock.session)

    def shot(self, name: str) -> None:
        """Take a picture of the window."""
        QTest.qWait(700)
        QApplication.processEvents()
        IMAGES.mkdir(exist_ok=True)
        path = IMAGES / f"{self.prefix}-{name}.png"
        self.viewer.window.screenshot(str(path), canvas_only=False, flash=False)
        with Image.open(path) as picture:
            picture.convert("RGB").quantize(256, method=Image.Quantize.MAXCOVERAGE).save(
                path, optimize=True
            )  # a third of the size
        print(path.name, "-", self.dock.notices.text())

    def idle(self, what: str) -> None:
        """Wait until the running job has ended."""
        wait(lambda: self.dock.session.runner.job is None, what, 900)
        QTest.qWait(200)

    def add(self, source: Any, labels: Any, target: Any, spacing: Any, target_spacing: Any) -> None:
        """Show the layers."""
        name = "source"
        self.viewer.add_image(source, name=name, **Placement(spacing).arguments())
        self.viewer.add_labels(
            labels, name=f"{name} mitochondria", **Placement(spacing).arguments()
        )
        self.viewer.add_image(target, name="target", **Placement(target_spacing).arguments())
        self.viewer.layers["source mitochondria"].visible = False
        self.viewer.layers["source"].visible = (
            self.truth is not None
        )  # real sources have licences of their own

    def data(self) -> None:
        """Make the project."""
        wait(lambda: self.dock.session.catalogue is not None, "the methods are known")
        wait(lambda: bool(self.dock.data.domain_gap.text()), "the domain gap is measured")
        self.dock.data.folder.setText("~/my-project")
        self.dock.data.folder.setModified(True)
        self.shot("1-data")
        self.dock.data.use_layers()
        wait(lambda: self.dock.session.opened is not None, "the project is made")

    def train(self) -> None:
        """Adapt."""
        panel, session = self.dock.train, self.dock.session
        panel.main.set_values({"profile": self.profile})
        panel.main.set_values({"steps": self.steps})
        self.shot("2-train")
        panel.start_job()
        wait(
            lambda: session.opened.output("preview", session.opened.target) is not None,
            "the first preview",
        )
        wait(lambda: panel.strip.bar.value() > self.steps * 0.6, "most steps are done")
        self.shot("3-training")
        self.idle("training ends")
        self.dock.show_only("Train")
        self.shot("4-trained")

    def annotate(self) -> None:
        """Two rounds: suggest, correct, retrain; then an audit, if the truth is known."""
        panel = self.dock.annotate
        self.dock.show_only("Annotate")
        panel.suggest.main.set_values({"patch": 64, "count": 5})
        panel.suggest.start_job()
        self.idle("suggesting ends")
        self.shot("5-suggested")
        self.hands.press("N")
        self.shot("6-patch")
        self.hands.press("H")
        self.shot("7-bare")
        self.hands.press("H")
        self.decide_all(pictures={1: "8-corrected"})
        if self.truth is not None:  # else the model is compared with what was only tidied up
            self.scroll_to(panel.curve)
            self.shot("9-curve")
        self.retrain("10-retraining")
        panel.suggest.start_job()
        self.idle("suggesting ends again")
        self.hands.press("N")
        self.decide_all()
        self.draw_own()
        self.retrain()
        if self.truth is not None:
            self.audit()

    def audit(self) -> None:
        """Measure the model on random patches, painted from nothing."""
        panel = self.dock.annotate
        panel.curve.count.setValue(8)
        panel.curve.start_job()
        self.idle("the audit is drawn")
        self.hands.press("N")
        self.decide_all(pictures={2: "12-audit"})
        self.scroll_to(panel.curve)
        self.shot("13-audited")
        print(
            panel.curve.summary.text(), panel.curve.last.text(), panel.curve.advice.text(), sep="\n"
        )

    def decide_all(self, pictures: dict[int, str] | None = None) -> None:
        """Correct the open patches one after the other; mark the last one as not sure."""
        panel, count = self.dock.annotate, 0
        while (region := panel.patches.current) is not None:
            self.correct(region)
            count += 1
            if count in (pictures or {}):
                self.shot((pictures or {})[count])
            last = sum(each.state == "suggested" for each in panel.patches.regions) == 1
            self.hands.press("Shift-J" if last and region.strategy != "audit" else "K")

    def look_at_section(self) -> None:
        """Show all of the middle section."""
        volume = self.dock.session.opened.target
        z, y, x = self.dock.session.opened.shape(volume)
        look_at(
            self.viewer,
            self.dock.session.opened.place(volume),
            Box((z // 2, 0, 0), (z // 2 + 1, y, x)),
        )

    def draw_own(self) -> None:
        """Draw a patch by hand in the current section."""
        panel, volume = self.dock.annotate, self.dock.session.opened.target
        z, y, x = (n // 2 for n in self.dock.session.opened.shape(volume))
        look_at(
            self.viewer,
            self.dock.session.opened.place(volume),
            Box((z, y - 60, x - 60), (z + 1, y + 60, x + 60)),
        )
        self.hands.press("W")
        self.hands.stroke(volume, [(z, y - 30, x - 40), (z, y, x), (z, y + 30, x + 30)])
        wait(lambda: panel.patches.current is not None, "the patch is drawn")
        self.shot("11-own")
        self.correct(panel.patches.current)
        self.hands.press("K")

    def retrain(self, picture: str = "") -> None:
        """Train on from the last model."""
        panel = self.dock.annotate
        panel.patches.leave()
        panel.retrain.steps.setValue(max(10, self.steps // 4))
        panel.retrain.start_job()
        wait(
            lambda: panel.retrain.strip.bar.value() > panel.retrain.steps.value() * 0.6,
            "most of the retraining",
        )
        if picture:
            self.dock.show_only("Train")
            self.shot(picture)
        self.idle("retraining ends")
        self.dock.show_only("Annotate")

    def scroll_to(self, part: QWidget) -> None:
        """Scroll to a part of the dock."""
        QTest.qWait(100)
        self.dock.findChild(QScrollArea).ensureWidgetVisible(part)

    def correct(self, region: Any) -> None:
        """Correct a patch, stroke by stroke."""
        paint, volume = self.dock.annotate.patches.paint, region.volume
        shown = np.maximum(np.asarray(paint.draft(volume)[region.voxels.slices])[0], 1)
        if self.truth is not None:
            right = np.asarray(self.truth[region.voxels.slices])[0] > 0
        else:
            smooth = opening(closing(shown > 1, disk(2)), disk(3))
            right = remove_small_holes(remove_small_objects(smooth, max_size=60), max_size=200)
        (z, top, left), wrong = region.voxels.start, (shown > 1) != right
        self.dock.annotate.tools.select_brush(1)
        for index, key in ((1, "2"), (0, "1")):
            self.hands.press(key)
            for y, first, last in runs(wrong & (right == bool(index))):
                line = [(z, top + y, left + first), (z, top + y, left + last)]
                self.hands.stroke(volume, line)

    def predict(self) -> None:
        """Segment the target."""
        session = self.dock.session
        self.dock.show_only("Predict")
        self.dock.predict.start_job()
        wait(
            lambda: session.opened.output("mask", session.opened.target) is not None,
            "a block is done",
        )
        self.idle("predicting ends")
        self.viewer.layers["emda: patches"].visible = False
        self.viewer.layers["emda: annotations"].visible = False
        self.look_at_section()
        self.dock.predict.smallest.setValue(15)
        self.shot("14-predicted")

    def export(self) -> None:
        """Write the mask."""
        self.dock.show_only("Export")
        self.dock.export.path.setText("~/mask.tif")
        self.dock.export.path.setModified(True)
        self.dock.export.start_job()
        self.idle("exporting ends")
        self.shot("15-exported")


def runs(mask: np.ndarray) -> list[tuple[int, int, int]]:
    """Row, first and last column of the runs of True."""
    edges = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    starts, stops = np.argwhere(edges == 1), np.argwhere(edges == -1)
    return [(int(y), int(a), int(b) - 1) for (y, a), (_, b) in zip(starts, stops, strict=True)]


def binned(array: Any, factor: int, *, labels: bool = False) -> np.ndarray:
    """Means over squares of pixels; for labels, where most of a square is labelled."""
    z, y, x = array.shape
    if factor == 1:
        return np.asarray(array)
    out = np.empty((z, y // factor, x // factor), np.uint8)
    for section in range(z):
        square = np.asarray(array[section], np.float32)[
            : y // factor * factor, : x // factor * factor
        ]
        mean = (
            (square > 0 if labels else square)
            .reshape(y // factor, factor, x // factor, factor)
            .mean((1, 3))
        )
        out[section] = mean >= 0.5 if labels else np.round(mean)
    return out


def layers(options: argparse.Namespace) -> tuple[Any, Any, Any, Any, Any, Any]:
    if options.source is None:
        source, labels = phantom((16, 192, 192), "source", 0)
        target, truth = phantom((16, 192, 192), "target", 0)
        return source, labels, target, truth, SPACING, SPACING
    k, every = options.bin, options.every
    t = k if options.target_bin is None else options.target_bin
    (z, y, x), (tz, ty, tx) = options.spacing, options.target_spacing
    truth = (
        binned(open_labels(options.truth).array, t, labels=True)[::every] if options.truth else None
    )
    return (
        binned(open_image(options.source).array, k),
        binned(open_labels(options.labels).array, k, labels=True),
        binned(open_image(options.target).array, t)[::every],
        truth,
        (z, y * k, x * k),
        (tz * every, ty * t, tx * t),
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("source", "labels", "target", "truth"):
        parser.add_argument(f"--{name}", type=Path)
    for name in ("spacing", "target-spacing"):
        parser.add_argument(f"--{name}", type=float, nargs=3)
    parser.add_argument(
        "--bin", type=int, default=1, help="pixels of the source to average along y and x"
    )
    parser.add_argument(
        "--target-bin", type=int, help="the same for the target; by default as the source"
    )
    parser.add_argument(
        "--every", type=int, default=1, help="take every n-th section of the target"
    )
    parser.add_argument("--profile", default="test")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--prefix", default="phantom")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        story = Story(options.prefix, options.steps, options.profile)
        os.environ["HOME"] = os.environ["USERPROFILE"] = folder
        source, labels, target, story.truth, spacing, target_spacing = layers(options)
        story.add(source, labels, target, spacing, target_spacing)
        for chapter in (story.data, story.train, story.annotate, story.predict, story.export):
            chapter()
        story.viewer.close()


if __name__ == "__main__":
    main()
