"""Going through the objects of a prediction, the suspicious ones first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, label

from benchmarks.simulated_person import Person, Voxel
from docs.stories.story import Story, wait
from napari_emda.data.box import Box
from napari_emda.errors import DataError
from napari_emda.objects.edited import EditedObjects
from napari_emda.objects.table_file import read_csv
from napari_emda.synthetic.phantom import phantom_objects

SHAPE = (24, 256, 256)
# More than in tissue: there is something to split.
TOUCHING = 0.6
BRANCHING = 0.3
# Objects that are looked at, and those that are if a kind of decision is still missing.
LOOKED_AT = 10
MOST = 16
# An outline that a user does not paint anew.
GOOD_ENOUGH = 0.5
WANTED = {"split", "merge", "delete"}


class PhantomObjects(Story):
    """Objects of a phantom: found, corrected by keys and clicks, exported and opened again."""

    name = "objects"
    # High: it also cuts some that are whole, so that there is something to merge.
    neck = 0.75
    # Voxels; specks of a model that was trained briefly are smaller, and mitochondria much larger.
    smallest = 300

    def volumes(self) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Image and mask of the source, image of the target and its true objects."""
        how = {"touching": TOUCHING, "branching": BRANCHING}
        source, ids = phantom_objects(SHAPE, "source", 0, **how)  # type: ignore[arg-type]
        target, truth = phantom_objects(SHAPE, "target", 1, **how)  # type: ignore[arg-type]
        return source, ids > 0, target, truth

    def chapters(self) -> Sequence[Callable[[], None]]:
        """From the volumes to a table and meshes, and back into napari."""
        return (
            self.begin,
            self.train_and_predict,
            self.find_objects,
            self.go_through,
            self.undo_two,
            self.export,
            self.reopen,
        )

    def begin(self) -> None:
        """Make a project."""
        source, mask, target, self.truth = self.volumes()
        mask = mask.astype(np.uint8) * 255
        self.open_files({"old.tif": source, "old_mitochondria.tif": mask, "new.tif": target})
        for size in (self.dock.data.source_size, self.dock.data.target_size):
            self.type_size(size)
        self.next("Use these layers")
        wait(lambda: self.session.opened is not None, "the project is made")

    def train_and_predict(self) -> None:
        """Train a little, and predict at once."""
        self.set_up_training()
        self.next("Start")
        self.idle("the training ends")
        self.open_panel("Predict")
        self.click(self.dock.predict.start)
        self.idle("the prediction ends")
        self.fill(self.dock.predict.smallest, str(self.smallest))

    def find_objects(self) -> None:
        """Separate those that touch, and find them in the whole volume."""
        panel = self.dock.objects
        self.open_panel("Objects")
        self.fill(panel.separate, f"{self.neck:g}")
        self.click(panel.start)
        self.idle("the objects are found")
        self.loaded()
        self.shot("found")

    def loaded(self) -> None:
        """Wait until objects are listed."""
        panel = self.dock.objects
        wait(lambda: panel.proofreader is not None, "the objects are read")
        wait(lambda: self.output("objects") is not None, "the objects are on view")

    def go_through(self) -> None:
        """Decide on suspicious objects as the truth says; pass over those that must be painted."""
        hands = Clicking(self)
        person = Person(hands, self.truth, GOOD_ENOUGH)
        looked_at = 0
        self.press("N")
        while (number := hands.reader.current) and (
            looked_at < LOOKED_AT or (WANTED - set(hands.done) and looked_at < MOST)
        ):
            looked_at += 1
            before = hands.done.total()
            person.look_at(number)
            # After a decision, the next one comes by itself.
            if hands.done.total() == before:
                self.press("N")
        print(f"{looked_at} objects looked at: {dict(hands.done)}")
        if "merge" not in hands.done:
            # Nothing was cut in two: by a mistake, which merging mends.
            whole = max(hands.objects.ids.tolist(), key=hands.objects.voxels)
            hands.merge(whole, hands.split(whole, self.ends(whole)))
        if "delete" not in hands.done:
            hands.delete(min(hands.objects.ids.tolist(), key=hands.objects.voxels))
        print(f"Decisions: {dict(hands.done)}")
        assert set(hands.done) >= WANTED
        self.shot("decided")

    def ends(self, number: int) -> list[Voxel]:
        """Voxels at both ends of an object in its largest section."""
        proofreading = self.dock.objects.proofreader.objects
        box = proofreading.largest_section(number)
        inside = np.argwhere(proofreading.objects[box.slices] == number)
        along = inside[:, 1] if box.shape[1] > box.shape[2] else inside[:, 2]
        first, last = np.add(inside[[along.argmin(), along.argmax()]], box.start).tolist()
        return [(first[0], first[1], first[2]), (last[0], last[1], last[2])]

    def undo_two(self) -> None:
        """Take two decisions back."""
        before = self.journal()
        for _ in range(2):
            self.press("U")
            wait(lambda: not self.dock.objects.proofreader.busy, "the decision is taken back")
        print(f"{len(before)} decisions, {len(self.journal())} after two were taken back")
        assert self.journal() == before[:-2]
        self.shot("undone")

    def journal(self) -> list[str]:
        """The decisions in effect."""
        return [edit.id for edit in self.session.opened.project.object_edits.read().active]

    def export(self) -> None:
        """Write the table and the meshes."""
        panel = self.dock.export
        self.open_panel("Export")
        objects = self.dock.objects.proofreader.objects.objects
        for what in ("table", "meshes"):
            self.choose(panel.what, what)
            self.click(panel.start)
            self.idle(f"the {what} are written")
            self.shot(what)
            path = panel.target()
            if what == "table":
                rows = read_csv(path)
                assert sorted(rows["id"].tolist()) == objects.ids.tolist()
            print(f"{path.name}: {path.stat().st_size} bytes")

    def reopen(self) -> None:
        """Close napari, and open the project again: all is there."""
        before = np.asarray(self.dock.objects.proofreader.objects.objects[...])
        journal = self.journal()
        folder = self.session.opened.project.folder
        self.close_napari()
        self.start_napari()
        # What the dialog of *Open a project ...* does, in which nothing can be clicked here.
        self.dock.data.open_project(folder)
        wait(lambda: self.session.opened is not None, "the project is open")
        self.open_panel("Objects")
        self.loaded()
        assert self.journal() == journal
        np.testing.assert_array_equal(self.dock.objects.proofreader.objects.objects[...], before)
        self.press("N")
        self.shot("reopened")


class LucchiObjects(PhantomObjects):
    """The same on real volumes: the upper rows of Lucchi's volume at 10 nm, then the lower ones."""

    name = "lucchi"
    spacing = (10.0, 10.0, 10.0)
    needs_data = True
    # Of 10 nm: mitochondria have 10 000 and more.
    smallest = 3000

    def volumes(self) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Image and mask of the source, image of the target and its true objects."""
        assert self.data is not None
        image, mask = (
            tifffile.imread(self.data / "lucchi" / f"{name}_10nm.tif")
            for name in ("image", "mitochondria")
        )
        middle = image.shape[1] // 2
        truth, _ = label(mask[:, middle:] > 0)
        return image[:, :middle], mask[:, :middle] > 0, image[:, middle:], truth


class Clicking:
    """Hands of a `Person` that decide by keys and clicks.

    Args:
        story: whose viewer is used.

    Attributes:
        done: decisions by kind.
    """

    def __init__(self, story: Story) -> None:
        self._story = story
        self.done: Counter[str] = Counter()

    @property
    def reader(self) -> Any:
        """Of the objects that are listed."""
        return self._story.dock.objects.proofreader

    @property
    def objects(self) -> EditedObjects:
        """See `Hands`."""
        objects: EditedObjects = self.reader.objects.objects
        return objects

    def good(self, number: int) -> None:
        """See `Hands`."""
        self._decide(number, "K", "good")

    def delete(self, number: int) -> None:
        """See `Hands`."""
        self._decide(number, "D", "delete")

    def merge(self, first: int, second: int) -> None:
        """See `Hands`."""
        self._decide(first, "M", "merge", lambda: [self._middle(first, second)])

    def split(self, number: int, seeds: Sequence[Voxel]) -> int:
        """See `Hands`."""
        count = len(self.objects.extents.voxels)
        self._decide(number, "S", "split", lambda: seeds)
        if len(self.objects.extents.voxels) == count:
            raise DataError("Nothing was split.")
        return count

    def _decide(
        self, number: int, key: str, kind: str, clicks: Callable[[], Sequence[Voxel]] = lambda: ()
    ) -> None:
        story = self._story
        table = story.dock.objects.table
        if self.reader.current != number:
            # The other part of one that was split; it need not be next in the table.
            story.click_row(table, table.objects.line_of(number))
        wait(lambda: self.reader.current == number, f"object {number} is on view")
        story.press(key)
        for index, voxel in enumerate(clicks()):
            self._click(voxel)
            if kind not in self.done and index == 0 and key == "S":
                story.shot("seed")
        before = story.dock.notices.text()
        wait(lambda: not self.reader.busy, f"{kind} is done")
        self.done[kind] += 1
        if self.done[kind] == 1:
            print(f"{kind} of {number}: {before} -> {story.dock.notices.text()}")
            story.shot(kind)

    def _click(self, voxel: Voxel) -> None:
        """Click at a voxel, after going to its section as the slider does."""
        story = self._story
        viewer = story.viewer
        opened = story.session.opened
        volume = opened.target
        if opened.section_on_view(volume).start[0] != voxel[0]:
            axis = viewer.dims.ndim - 3
            world = opened.place(volume).to_world(viewer, voxel)
            viewer.dims.set_point(axis, world[axis])
        if not _holds(opened.section_on_view(volume), voxel):
            # Zoomed out, as by the wheel.
            opened.show_section(volume, voxel[0])
        story.hands.click(volume, voxel)
        story.clicks += 1

    def _middle(self, first: int, second: int) -> Voxel:
        """The voxel of an object that lies deepest, in the section on view if it is there."""
        opened = self._story.session.opened
        seen = opened.section_on_view(opened.target)
        box = self.objects.box(second)
        mask = self.objects[box.slices] == second
        depth = np.stack([distance_transform_edt(section) for section in mask])
        visible = np.zeros(box.shape, bool)
        visible[tuple(slice(*span) for span in _within(seen, box))] = True
        if depth[visible].any():
            depth[~visible] = 0
        z, y, x = np.add(np.unravel_index(depth.argmax(), depth.shape), box.start).tolist()
        return z, y, x


def _holds(box: Box, voxel: Voxel) -> bool:
    return all(a <= i < b for a, i, b in zip(box.start, voxel, box.stop, strict=True))


def _within(seen: Box, box: Box) -> Iterator[tuple[int, int]]:
    """Where a box is seen, in its own voxels along each axis."""
    for a, b, start, size in zip(seen.start, seen.stop, box.start, box.shape, strict=True):
        yield min(max(0, a - start), size), min(max(0, b - start), size)
