"""Take the pictures of docs/no-labels.md: clusters, names, corrections, retraining, export.

    xvfb-run -s "-screen 0 1600x1000x24" python -m docs.make_no_labels_screenshots \
        [IMAGE LABELS --independent]

It uses the phantom's target alone, with real clicks. It prints the time from the first click to the
exported mask, and how well the masks agree with the truth. With an image and its labels (1, 2 … are
the classes) it does the same with these, without pictures; the labels decide where to click and how
to correct, and are not shown to the plugin.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from qtpy.QtTest import QTest
from scipy.ndimage import distance_transform_edt
from sklearn.metrics import jaccard_score

from docs.make_screenshots import Story, wait
from napari_emda._gui.common.adapters import Placement, look_at
from napari_emda.data.box import Box
from napari_emda.data.probabilities import class_ids
from napari_emda.io.read import open_image, open_labels
from napari_emda.synthetic.microscope import APPEARANCES
from napari_emda.synthetic.phantom import SPACING, phantom
from napari_emda.synthetic.tissue import MEMBRANE_WIDTH, Tissue

SHAPE = (16, 192, 192)


class NoLabels(Story):
    """The same viewer and dock, with a volume without labels.

    Args:
        image, truth: (z, y, x); the truth holds 0 and the classes from 1.
        classes: their names.
        independent: whether sections are images of their own.
        pictures: whether they are taken for the pages.
    """

    def __init__(
        self, image: Any, truth: Any, classes: Sequence[str], *, independent: bool, pictures: bool
    ) -> None:
        super().__init__("no-labels", steps=300, profile="test")
        self.image, self.truth, self.classes = image, truth, classes
        self.independent, self.pictures = independent, pictures
        self.section = len(image) // 2

    def begin(self) -> None:
        """Make a project of one volume without labels."""
        scale = {} if self.independent else Placement(SPACING).arguments()
        self.viewer.add_image(self.image, name="target", **scale)
        data, session = self.dock.data, self.dock.session
        wait(lambda: session.catalogue is not None, "the methods are known")
        data.classes.setText(", ".join(("background", *self.classes)))
        data.folder.setText("~/no-labels")
        data.folder.setModified(True)
        if self.independent:
            data.target_size.is_depth.click()
            data.target_size.set_value((1.0, 1.0, 1.0))
        data.use_layers()
        wait(lambda: session.opened is not None, "the project is made")

    def cluster(self) -> None:
        """Train without labels, and show the clusters."""
        panel, naming = self.dock.train, self.dock.data.naming
        self.dock.show_only("Train")
        panel.main.set_values({"profile": self.profile})
        panel.main.set_values({"steps": self.steps})
        panel.advanced.set_values({"learning_rate": 0.003})
        panel.start_job()
        self.idle("training ends")
        self.dock.show_only("Data")
        naming.start_job()
        self.idle("the clusters are found")
        shape, z = self.dock.session.opened.shape("target"), self.section
        look_at(
            self.viewer,
            self.dock.session.opened.place("target"),
            Box((z, 0, 0), (z + 1, *shape[1:])),
        )

    def name(self) -> None:
        """Click on the two purest clusters of the structure, or the purest of each class."""
        naming, ids = (
            self.dock.data.naming,
            class_ids(np.asarray(self.dock.data.naming.model.clusters()[:, self.section])),
        )
        truth = self.truth[self.section]
        everywhere = np.bincount(ids.ravel()).clip(1)
        naming.pick.setChecked(True)
        for number, name in enumerate(self.classes, 1):
            naming.name.setCurrentText(name)
            share = np.bincount(ids[truth == number], minlength=len(everywhere)) / everywhere
            share[everywhere < 0.005 * ids.size] = 0  # too small to be clicked at
            share[list(naming.model.names())] = 0
            for cluster in np.argsort(-share)[: max(1, 2 // len(self.classes))]:
                depth = distance_transform_edt((truth == number) & (ids == cluster))
                y, x = np.unravel_index(np.argmax(depth), depth.shape)
                self.hands.click("target", (self.section, y, x))
        naming.pick.setChecked(False)
        print(naming.summary.text())
        self.scroll_to(naming.use)
        self.shot("2-named")

    def loop(self) -> None:
        """Correct the patches that begin with the named clusters, retrain, export."""
        naming, session = self.dock.data.naming, self.dock.session
        naming.write_mask(session.opened, Path("~/named.tif").expanduser())
        self.idle("the mask is written")
        naming.use_as_labels()
        self.idle("patches are suggested")
        self.dock.show_only("Annotate")
        self.hands.press("N")
        self.shot("3-patch")
        self.decide_all()
        self.retrain()
        self.predict()
        self.dock.show_only("Export")
        self.dock.export.path.setText("~/mask.tif")
        self.dock.export.path.setModified(True)
        self.dock.export.start_job()
        self.idle("exporting ends")
        assert session.opened is not None

    def correct(self, region: Any) -> None:
        """Paint the truth at once; the tutorial shows single strokes."""
        layer = self.dock.annotate.patches.paint.layer(region.volume)
        layer.data[region.voxels.slices] = self.truth[region.voxels.slices] + 1

    def shot(self, name: str) -> None:
        """Take only two pictures; the others are in the tutorial."""
        if self.pictures and name[0] in "23" and name[1] == "-":
            super().shot(name)

    def agreement(self, name: str) -> str:
        """IoU of an exported mask with the truth, class by class."""
        found: Any = np.asarray(open_labels(Path(f"~/{name}.tif").expanduser()).array[:])
        numbers = range(1, len(self.classes) + 1)
        scores = jaccard_score(
            self.truth.ravel(), found.ravel(), labels=list(numbers), average=None
        )
        return ", ".join(
            f"{name} {score:.2f}" for name, score in zip(self.classes, scores, strict=True)
        )


def tissue() -> tuple[Any, Any]:
    """The phantom's target: image, and where mitochondria (1) and cell membranes (2) are."""
    image, truth = phantom(SHAPE, "target", 0)
    drawn = Tissue(
        np.random.default_rng([0, list(APPEARANCES).index("target")]),
        SHAPE,
        SPACING,
        APPEARANCES["target"],
    )
    membrane = (np.abs(drawn.depth) < MEMBRANE_WIDTH) & (truth == 0)
    return image, np.where(membrane, 2, truth).astype(np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="*", type=Path, metavar="IMAGE LABELS")
    parser.add_argument(
        "--independent", action="store_true", help="sections are images of their own"
    )
    given = parser.parse_args()
    image, truth, classes = *tissue(), ("mitochondria", "membrane")
    if given.files:
        image, truth = (
            np.asarray(each.array[:])
            for each in (open_image(given.files[0]), open_labels(given.files[1]))
        )
        classes = tuple(f"class {number}" for number in range(1, truth.max() + 1))
    with tempfile.TemporaryDirectory() as folder:
        story = NoLabels(
            image, truth, classes, independent=given.independent, pictures=not given.files
        )
        os.environ["HOME"] = os.environ["USERPROFILE"] = folder
        began = time.monotonic()
        for chapter in (story.begin, story.cluster, story.name, story.loop):
            chapter()
        print(f"{time.monotonic() - began:.0f} s; IoU named: {story.agreement('named')};", end=" ")
        print(f"corrected and retrained: {story.agreement('mask')}")
        QTest.qWait(100)
        story.viewer.close()


if __name__ == "__main__":
    main()
