"""Runs the whole story in a viewer and photographs each state: the pictures of the documentation.

    python docs/make_screenshots.py                       # on the phantom
    python docs/make_screenshots.py --prefix lucchi --source VNC.tif --labels VNC-MITO.tif --spacing 50 4.6 4.6 \
        --target LUCCHI.tif --target-spacing 20 5 5 --truth LUCCHI-MITO.tif --bin 4 --steps 400

Without a screen: ``xvfb-run -s "-screen 0 1600x1000x24" python docs/make_screenshots.py``.
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
from qtpy.QtWidgets import QApplication

from napari_emda._gui.adapters import Placement
from napari_emda._gui.dock import Dock, make_dock
from napari_emda.data.files import open_image, open_labels
from napari_emda.data.phantom import SPACING, phantom

SIZE = (1500, 900)
DOCK_WIDTH = 440
IMAGES = Path(__file__).parent / "images"


def wait(condition: Callable[[], bool], what: str, seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise SystemExit(f"Waited {seconds:.0f} s in vain until {what}.")
        QTest.qWait(20)


class Story:
    """One viewer, one dock, one camera."""

    def __init__(self, prefix: str, steps: int) -> None:
        self.prefix, self.steps = prefix, steps
        self.viewer = napari.Viewer()
        self.viewer.window.resize(*SIZE)
        self.dock: Dock = make_dock(self.viewer)
        holder = self.viewer.window.add_dock_widget(self.dock, name="napari-emda", area="right")
        holder.parent().resizeDocks([holder], [DOCK_WIDTH], Qt.Orientation.Horizontal)
        self.truth: Any = None

    def shot(self, name: str) -> None:
        """Photograph the window."""
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
        """Wait for the end of the running job."""
        wait(lambda: self.dock.session.runner.job is None, what, 900)
        QTest.qWait(200)

    def add(self, source: Any, labels: Any, target: Any, spacing: Any, target_spacing: Any) -> None:
        """Show the layers."""
        name = "source"
        self.viewer.add_image(source, name=name, **Placement(spacing).arguments())
        self.viewer.add_labels(labels, name=f"{name} mitochondria", **Placement(spacing).arguments())
        self.viewer.add_image(target, name="target", **Placement(target_spacing).arguments())
        self.viewer.layers["source mitochondria"].visible = False

    def data(self) -> None:
        """Make the project."""
        wait(lambda: self.dock.session.catalogue is not None, "the methods are known")
        wait(lambda: bool(self.dock.data.gap.text()), "the domain gap is measured")
        self.dock.data.folder.setText("~/my-project")
        self.dock.data.folder.setModified(True)
        self.shot("1-data")
        self.dock.data.use_layers()
        wait(lambda: self.dock.session.project is not None, "the project is made")

    def train(self) -> None:
        """Adapt."""
        panel, session = self.dock.train, self.dock.session
        panel.main.set_values({"steps": self.steps, "profile": "test" if self.steps < 100 else "fast"})
        panel.main.set_values({"steps": self.steps})
        self.shot("2-train")
        panel.start_training()
        wait(lambda: session.output("preview 0", session.target) is not None, "the first preview")
        wait(lambda: panel.strip.bar.value() > self.steps * 0.6, "most steps are done")
        self.shot("3-training")
        self.idle("training ends")
        self.dock.show_only("Train")
        self.shot("4-trained")

    def annotate(self) -> None:
        """Suggest, correct, retrain."""
        panel = self.dock.annotate
        self.dock.show_only("Annotate")
        panel.main.set_values({"patch": 64, "count": 5})
        panel.start_suggesting()
        self.idle("suggesting ends")
        self.shot("5-suggested")
        panel.deeds["next"]()
        self.shot("6-patch")
        for count in range(3):
            region = panel.patches.current
            if region is None:
                break
            self.correct(region)
            if count == 1:
                self.shot("7-corrected")
            panel.deeds["done"]()
        self.shot("8-next")
        panel.patches.leave()
        panel.retrain.steps.setValue(max(10, self.steps // 2))
        panel.retrain.retrain()
        wait(lambda: panel.retrain.strip.bar.value() > panel.retrain.steps.value() * 0.6, "most of the retraining")
        self.dock.show_only("Train")
        self.shot("9-retraining")
        self.idle("retraining ends")

    def correct(self, region: Any) -> None:
        """Paint the truth in a patch, as a patient user would."""
        if self.truth is not None:
            layer = self.dock.session.output("annotations", region.volume)
            truth = np.asarray(self.truth[region.voxels.slices]) > 0
            layer.data[region.voxels.slices] = np.where(truth, 2, 0).astype(np.uint8)
            layer.refresh()

    def predict(self) -> None:
        """Segment the target."""
        session = self.dock.session
        self.dock.show_only("Predict")
        self.dock.predict.predict()
        wait(lambda: session.output("mask", session.target) is not None, "a block is done")
        self.idle("predicting ends")
        self.viewer.layers["suggested patches"].visible = False
        self.viewer.layers["annotations"].visible = False
        self.viewer.reset_view()
        self.dock.predict.smallest.setValue(15)
        self.shot("10-predicted")

    def export(self) -> None:
        """Write the mask."""
        self.dock.show_only("Export")
        self.dock.export.path.setText("~/mask.tif")
        self.dock.export.path.setModified(True)
        self.dock.export.export()
        self.idle("exporting ends")
        self.shot("11-exported")


def binned(array: Any, factor: int, *, labels: bool = False) -> np.ndarray:
    """Means over squares of pixels; for labels, where most of a square is labelled."""
    z, y, x = array.shape
    if factor == 1:
        return np.asarray(array)
    out = np.empty((z, y // factor, x // factor), np.uint8)
    for section in range(z):
        square = np.asarray(array[section], np.float32)[: y // factor * factor, : x // factor * factor]
        mean = (square > 0 if labels else square).reshape(y // factor, factor, x // factor, factor).mean((1, 3))
        out[section] = mean >= 0.5 if labels else np.round(mean)
    return out


def layers(options: argparse.Namespace) -> tuple[Any, Any, Any, Any, Any, Any]:
    if options.source is None:
        source, labels = phantom((16, 192, 192), "source", 0)
        target, truth = phantom((16, 192, 192), "target", 0)
        return source, labels, target, truth, SPACING, SPACING
    k = options.bin
    spacings = [(z, y * k, x * k) for z, y, x in (options.spacing, options.target_spacing)]
    truth = binned(open_labels(options.truth).array, k, labels=True) if options.truth else None
    return (
        binned(open_image(options.source).array, k),
        binned(open_labels(options.labels).array, k, labels=True),
        binned(open_image(options.target).array, k),
        truth,
        *spacings,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("source", "labels", "target", "truth"):
        parser.add_argument(f"--{name}", type=Path)
    for name in ("spacing", "target-spacing"):
        parser.add_argument(f"--{name}", type=float, nargs=3)
    parser.add_argument("--bin", type=int, default=1)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--prefix", default="phantom")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        story = Story(options.prefix, options.steps)
        os.environ["HOME"] = os.environ["USERPROFILE"] = folder
        source, labels, target, story.truth, spacing, target_spacing = layers(options)
        story.add(source, labels, target, spacing, target_spacing)
        for chapter in (story.data, story.train, story.annotate, story.predict, story.export):
            chapter()
        story.viewer.close()


if __name__ == "__main__":
    main()
