"""One volume without any labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.ndimage import distance_transform_edt

from docs.stories.own_files import SHAPE
from docs.stories.story import Story, wait
from napari_emda.data.probabilities import class_ids
from napari_emda.synthetic.phantom import phantom

# Patches that are corrected: each is large, and clusters leave much to paint.
CORRECTED = 2


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
        image, self.truth = phantom(SHAPE, "target", 0)
        self.open_files({"new.tif": image})
        self.type_size(self.dock.data.target_size)
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
        self.decide_all("corrected", correct=CORRECTED)

    def export(self) -> None:
        """Write the mask, and compare it with the truth."""
        super().export()
        print(f"IoU of the mask: {self.overlap():.2f}")
