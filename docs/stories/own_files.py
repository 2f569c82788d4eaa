"""One's own TIFFs, without voxel size and with the mask opened as an image."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from docs.stories.story import Story, wait
from napari_emda.synthetic.phantom import phantom

# Voxels of the volumes: little to train on, and quick to segment.
SHAPE = (16, 192, 192)


class OwnFiles(Story):
    """From three TIFFs without voxel size to a first mask; what README says, and nothing more."""

    name = "own"

    def chapters(self) -> Sequence[Callable[[], None]]:
        """From the files to a mask."""
        return (self.drop_files, self.type_the_voxel_sizes, self.start_training, self.first_mask)

    def drop_files(self) -> None:
        """Drop the files on the canvas."""
        source, labels = phantom(SHAPE, "source", 0)
        target, self.truth = phantom(SHAPE, "target", 0)
        # As a mask is often saved, which napari then opens as an image.
        mask = labels * 255
        self.open_files({"old.tif": source, "old_mitochondria.tif": mask, "new.tif": target})
        self.shot("opened")

    def type_the_voxel_sizes(self) -> None:
        """One click into each volume's first box, the Tab key for the others."""
        for size in (self.dock.data.source_size, self.dock.data.target_size):
            self.type_size(size)
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
        print(f"IoU of the first mask: {self.overlap():.2f}")
