"""A model from another project, check points, corrections by object, retraining and an audit."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from scipy import ndimage

from docs.stories.story import Story, wait

# Voxels (z, y, x) of the volumes: little to train on, and quick to segment.
SOURCE = (slice(0, 12), slice(0, 512), slice(0, 512))
TARGET = (slice(0, 16), slice(0, 384), slice(0, 512))
# nm; the models of the lab next door have the voxel size of VNC.
SOURCE_SPACING = (50.0, 4.6, 4.6)
POINTS = 50
# Patches that are corrected by object, and audited.
CORRECTED = 3
AUDITED = 6
# Pixels of an object that a person would click, rather than leave as it is.
SMALLEST = 60


class FromModel(Story):
    """VNC's model, which another project has trained, on a part of Lucchi's volume."""

    name = "model"
    spacing = (20.0, 5.0, 5.0)
    needs_data = True

    def chapters(self) -> Sequence[Callable[[], None]]:
        """From a file with a model to an audited one."""
        return (
            self.start_from_the_model,
            self.check_points,
            self.correct_by_object,
            self.retrain,
            self.predict_again,
            self.audit,
        )

    def read(self, name: str, part: tuple[slice, ...]) -> NDArray[Any]:
        """A part of a real volume."""
        assert self.data is not None
        return np.ascontiguousarray(tifffile.imread(self.data / name)[part])

    def model_of_another_project(self) -> Path:
        """What a colleague has done on the command line."""
        folder = Path.home() / "colleague"
        folder.mkdir()
        for name, source in (("image", "image"), ("labels", "mitochondria")):
            array = self.read(f"vnc/{source}.tif", SOURCE)
            if name == "labels":
                array = (array > 0).astype(np.uint8)
            tifffile.imwrite(folder / f"{name}.tif", array)
        z, y, x = map(str, SOURCE_SPACING)
        training = ["--method", "source_only", "--profile", "test", "--steps", str(2 * self.steps)]
        commands = (
            ["new", "vnc", "--source", "image.tif", "labels.tif", "--spacing", z, y, x],
            ["train", "vnc", *training, "--set", "augmentation=strong"],
            ["export", "vnc", "--what", "model_file", "--to", "vnc.safetensors"],
        )
        for command in commands:
            subprocess.run([sys.executable, "-m", "napari_emda", *command], cwd=folder, check=True)
        return folder / "vnc.safetensors"

    def start_from_the_model(self) -> None:
        """Open the target, choose the file with the model, and predict."""
        model = self.model_of_another_project()
        truth = self.read("lucchi/mitochondria_every4.tif", TARGET) > 0
        self.truth = truth.astype(np.uint8)
        self.open_files({"new.tif": self.read("lucchi/image_every4.tif", TARGET)})
        start = self.dock.data.model
        self.click(start.toggle)
        self.type_size(self.dock.data.target_size)
        # In place of the system's dialog for files.
        start.open(model)
        wait(lambda: start.path is not None, "the model is read")
        self.shot("chosen")
        self.next("Use these layers")
        wait(lambda: self.session.opened is not None, "the project is made")
        self.shot("project")
        self.open_panel("Predict")
        self.click(self.dock.predict.start)
        self.idle("the prediction ends")
        self.shot("predicted")

    def check_points(self) -> None:
        """Answer random points, and calibrate."""
        panel = self.dock.annotate
        self.open_panel("Annotate")
        if not panel.check_drawer.isExpanded():
            self.click(panel.check_drawer.toggleButton())
        self.fill(panel.check.count, str(POINTS))
        self.click(panel.check.start)
        checking = panel.check_round
        wait(lambda: checking.active, "the first point is on view")
        while checking.active:
            if checking.number == 12:
                self.shot("point")
            point = checking.points[checking.number - 1]
            self.press(str(self.truth[point.voxel] + 1))
        self.shot("checked")
        if panel.check.use.isVisible() and panel.check.use.isEnabled():
            self.click(panel.check.use)
            self.shot("calibrated")

    def correct_by_object(self) -> None:
        """Drop and add objects in suggested patches by clicks."""
        panel = self.dock.annotate
        if not panel.suggest_drawer.isExpanded():
            self.click(panel.suggest_drawer.toggleButton())
        self.click(panel.suggest.start)
        self.idle("the patches are suggested")
        self.next("Next patch")
        corrected = 0
        while (region := panel.patches.current) is not None and corrected < CORRECTED:
            if corrected == 0:
                self.press("C")
            clicks = self.correct(region)
            print(f"patch {corrected + 1}: {clicks} clicks on objects")
            if corrected == 0:
                self.shot("by-object")
            self.press("K")
            corrected += 1
        while panel.patches.current is not None:
            self.press("Shift-J")

    def correct(self, region: Any) -> int:
        """Click what is wrong in a patch; returns the number of clicks."""
        volume = region.volume
        slices = region.voxels.slices
        z, top, left = region.voxels.start
        seen = np.asarray(self.dock.annotate.patches.paint.draft(volume)[slices])[0] == 2
        right = np.asarray(self.truth[slices])[0] > 0
        clicks = 0
        for wrong, covers in ((seen, right), (right, seen)):
            ids, count = ndimage.label(wrong)
            for number in range(1, count + 1):
                mask = ids == number
                if mask.sum() < SMALLEST or (mask & covers).sum() > 0.2 * mask.sum():
                    continue
                depth = ndimage.distance_transform_edt(mask)
                y, x = np.unravel_index(int(depth.argmax()), depth.shape)
                self.press("2")
                self.hands.click(volume, (z, top + int(y), left + int(x)))
                self.clicks += 1
                clicks += 1
        return clicks

    def predict_again(self) -> None:
        """Segment the target with what was learnt."""
        self.open_panel("Predict")
        self.click(self.dock.predict.start)
        self.idle("the prediction ends")
        self.shot("again")

    def audit(self) -> None:
        """Measure the model on random patches that are painted from nothing."""
        panel = self.dock.annotate
        self.open_panel("Annotate")
        if not panel.curve_drawer.isExpanded():
            self.click(panel.curve_drawer.toggleButton())
        self.fill(panel.curve.count, str(AUDITED))
        self.click(panel.curve.start)
        self.idle("the audit is drawn")
        self.next("Next patch")
        self.decide_all(correct=AUDITED)
        if not panel.curve_drawer.isExpanded():
            self.click(panel.curve_drawer.toggleButton())
        self.scroll_to(panel.curve)
        self.shot("audited")
