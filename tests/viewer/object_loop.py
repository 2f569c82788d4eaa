"""Going through objects by hand, with a diary: it can be killed at any moment and then checked.

python -m tests.viewer.object_loop PROJECT DIARY SEED fake
"""

import sys

import numpy as np

from napari_emda.project.project import Project
from napari_emda.project.proofreading import Proofreading, reconcile
from tests.gui.found import RUN, disc_model
from tests.viewer.loop import Diary, entries, in_viewer

VOLUME = "target"
SHAPE = (4, 96, 96)
Z = 1
RADIUS = 5
# In a row of four places, one holds a pair that touches.
PLACES = [(y, x) for y in range(12, 96, 24) for x in range(12, 96, 24)]
PAIRS = PLACES[1::4]
DISCS = {
    "lone": [place for place in PLACES if place not in PAIRS],
    "pair": [(y, x + side) for y, x in PAIRS for side in (-4, 4)],
}
CENTRES = [centre for centres in DISCS.values() for centre in centres]
DECISIONS = 60
# Annotations of what is right, and of what is none.
TAUGHT = {"good": 2, "delete": 1}


def make(project):
    """A prediction of discs in the target, and its objects."""
    disc_model(project, VOLUME, RADIUS, DISCS)


class Proofreader:
    """Decides on objects with keys and clicks, at random, and takes some decisions back."""

    def __init__(self, viewer, dock, diary, seed):
        from tests.viewer.hands import Hands

        self.panel, self.diary = dock.objects, diary
        self.hands = Hands(viewer, dock.session)
        self.rng = np.random.default_rng(seed)
        self.active, self.undone = [], []
        dock.show_only("Objects")
        self.wait(lambda: dock.objects.proofreader is not None)
        # It goes on from kill to kill.
        for edit in dock.session.opened.project.object_edits.of(VOLUME, "mitochondria"):
            self.active.append([edit.kind, list(edit.ids)])

    @property
    def reader(self):
        return self.panel.proofreader

    @staticmethod
    def wait(condition):
        from qtpy.QtTest import QTest

        while not condition():
            QTest.qWait(1)

    def go_through(self):
        for _ in range(DECISIONS):
            self.step()

    def step(self):
        """Decide on the next object, or take a decision back or repeat it."""
        if self.active and self.rng.random() < 0.2:
            return self._act("U", self.active[:-1], [*self.undone, self.active[-1]])
        if self.undone and self.rng.random() < 0.5:
            return self._act("Shift-U", [*self.active, self.undone[-1]], self.undone[:-1])
        self.hands.press("N")
        number = self.reader.current
        if not number:  # all are decided
            return self._act("U", self.active[:-1], [*self.undone, self.active[-1]])
        own = [centre for centre in CENTRES if self._at(centre) == number]
        if len(own) > 1 and not self._merged(number):
            return self._decide("S", "split", [number], own[:2])
        # In turns, so that all of them come early.
        key, kind = (("K", "good"), ("D", "delete"), ("M", "merge"))[len(self.active) % 3]
        if kind != "merge":
            return self._decide(key, kind, [number])
        other = self._another(number)
        if other is None:
            return self._decide("K", "good", [number])
        return self._decide(key, kind, [number, self._at(other)], [other])

    def _at(self, centre):
        return self.reader.objects.at((Z, *centre))

    def _merged(self, number):
        return any(kind == "merge" and number in ids for kind, ids in self.active)

    def _another(self, number):
        """The centre of another object on which no decision was made."""
        decided = {number, *(n for _, ids in self.active for n in ids)}
        found = len(self.reader.objects.table.columns["id"])
        centres = [c for c in CENTRES if 0 < self._at(c) <= found and self._at(c) not in decided]
        return centres[self.rng.integers(len(centres))] if centres else None

    def _decide(self, key, kind, ids, clicks=()):
        self._act(key, [*self.active, [kind, ids]], [], clicks)

    def _act(self, key, active, undone, clicks=()):
        """Press a key and click; the diary gets which decisions are in effect from then on."""
        self.diary.write("deciding", active=active)
        self.hands.press(key)
        for centre in clicks:
            self.hands.click(VOLUME, (Z, *centre))
        self.wait(lambda: not self.reader.busy)
        self.active, self.undone = active, undone
        self.diary.write("decided", active=active)


def check(folder, diary):
    """What the diary holds and the project does not. Opens the project as the dock does."""
    decisions = entries(diary)
    with Project.open(folder, exclusive=True) as project:
        reconcile(project)
        reader = Proofreading.of(project, RUN, VOLUME)
        edits = project.object_edits.of(VOLUME, "mitochondria")
        active = [[edit.kind, list(edit.ids)] for edit in edits]
        lost = [str(edit) for edit in reader.replayed.lost]
        # The last one may have been begun, and then it holds or not.
        if decisions and active not in [entry["active"] for entry in decisions[-2:]]:
            lost.append(f"decisions {decisions[-1]['active']}, found {active}")
        found = np.asarray(reader.found.ids(1)[...])
        now = np.asarray(reader.objects[...])
        annotations = np.asarray(project.annotations.require(VOLUME)[...])
    return decisions, lost + list(_wrong(edits, found, now, annotations))


def _wrong(edits, found, now, annotations):
    """What does not follow from decisions: objects, and annotations of whole ones."""
    for edit in edits:
        if edit.kind == "merge" and len({*now[np.isin(found, edit.ids)].tolist()} - {0}) > 1:
            yield f"{edit} left two objects"
        if edit.kind == "split" and len({int(now[seed]) for seed in edit.seeds} - {0}) == 1:
            yield f"{edit} left one object"
        if edit.kind == "delete" and edit.ids[0] in now:
            yield f"{edit} left it there"
    reshaped = {n for edit in edits if edit.kind in ("merge", "split") for n in edit.ids}
    values = {edit.ids[0]: TAUGHT[edit.kind] for edit in edits if edit.kind in TAUGHT}
    for number in {*range(1, int(found.max()) + 1)} - reshaped:
        there = set(annotations[found == number].tolist())
        if there != {values.get(number, 0)}:
            yield f"annotations {there} of object {number}, not {values.get(number, 0)}"


def main():
    folder, diary, seed, children = sys.argv[1:]
    with in_viewer(folder, children) as (viewer, dock):
        proofreader = Proofreader(viewer, dock, Diary(diary), int(seed))
        proofreader.go_through()


if __name__ == "__main__":
    main()
