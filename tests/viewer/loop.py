"""The annotation loop by hand, with a diary: it can be killed at any moment and then checked.

python -m tests.viewer.loop PROJECT DIARY SEED real|fake
"""

import contextlib
import json
import sys
from pathlib import Path

import numpy as np

from napari_emda.project.project import Project

DECISIONS = {"K": "accepted", "Shift-K": "partial", "J": "skipped", "Shift-J": "unsure"}
ROUNDS, STROKES = 3, 3


class Diary:
    """A line before a decision and one after it, handed to the system at once."""

    def __init__(self, path):
        self._path = Path(path)

    def write(self, kind, **values):
        with self._path.open("a") as file:
            file.write(json.dumps({"kind": kind, **values}) + "\n")


class Annotator:
    """Goes through the loop with keys and mouse, at random."""

    def __init__(self, viewer, dock, diary, seed):
        from tests.viewer.hands import Hands

        self.dock, self.diary = dock, diary
        self.patches = dock.annotate.patches
        self.hands = Hands(viewer, dock.session)
        self.rng = np.random.default_rng(seed)

    def idle(self):
        from qtpy.QtTest import QTest

        while self.dock.session.runner.job is not None:
            QTest.qWait(20)

    def round(self):
        """Suggest, decide on every patch, retrain."""
        self.diary.write("suggesting")
        self.dock.annotate.suggest.start_job()
        self.idle()
        self.diary.write("queue", ids=[region.id for region in self.patches.regions])
        self.hands.press("N")
        while self.patches.current is not None:
            for _ in range(STROKES):
                self.stroke(self.patches.current)
            self.decide(self.patches.current)
        self.diary.write("retraining")
        self.dock.annotate.retrain.steps.setValue(30)
        self.dock.annotate.retrain.start_job()
        self.idle()

    def stroke(self, region):
        """A stroke; the diary gets the voxels and the value that they must have from then on."""
        (z, y0, x0), (_, y1, x1) = region.voxels.start, region.voxels.stop
        y, left = int(self.rng.integers(y0, y1)), int(self.rng.integers(x0, x1 - 6))
        value = int(self.rng.integers(1, 3))
        shown = np.asarray(self.patches.paint.draft(region.volume)[z, y, left : left + 5])
        stored = np.asarray(self.patches.paint.draft(region.volume).stored[z, y, left : left + 5])
        if (stored > 0).any():  # what the diary has already must stay as it says
            return
        self.hands.press(str(value))
        self.dock.annotate.tools.select_brush(1)
        self.hands.stroke(region.volume, [(z, y, x) for x in range(left, left + 5)])
        voxels = [(z, y, left + k) for k in np.flatnonzero(shown != value).tolist()]
        self.diary.write("stroke", volume=region.volume, voxels=voxels, value=value)

    def decide(self, region):
        """One of the keys; now and then take the decision back and decide again."""
        key = str(self.rng.choice(list(DECISIONS), p=[0.5, 0.2, 0.2, 0.1]))
        stored = self.patches.paint.stored(region)
        if key == "Shift-K" and not stored.any():
            key = "K"
        if self.rng.random() < 0.25:
            self._press(key, region.id, DECISIONS[key])
            self._press("U", region.id, "suggested")
        self._press(key, region.id, DECISIONS[key])

    def _press(self, key, region, state):
        self.diary.write("deciding", id=region, state=state)
        self.hands.press(key)
        self.diary.write("decided", id=region, state=state)


def entries(diary):
    """The lines of a diary; the last one may be cut off."""
    lines = Path(diary).read_text().splitlines() if Path(diary).exists() else []
    return [json.loads(line) for line in lines if line.endswith("}")]


def check(folder, diary):
    """What the diary holds and the project does not. Opens the project as the dock does."""
    decisions = entries(diary)
    lost = []
    with Project.open(folder, exclusive=True) as project:
        states = {region.id: region for region in project.regions.all()}
        stored = {
            entry.name: project.annotations.open(entry.name) for entry in project.volumes.targets()
        }
        expected, begun = {}, {}
        for decision in decisions:
            if decision["kind"] == "queue":
                lost += [
                    f"suggestion {identifier}"
                    for identifier in decision["ids"]
                    if identifier not in states
                ]
            elif decision["kind"] == "stroke":
                found = [
                    int(np.asarray(stored[decision["volume"]][tuple(voxel)]))
                    for voxel in decision["voxels"]
                ]
                if set(found) - {decision["value"]}:
                    lost.append(f"stroke of {decision['value']} at {decision['voxels']}: {found}")
            elif decision["kind"] == "deciding":
                begun = {decision["id"]: decision["state"]}
            elif decision["kind"] == "decided":
                expected[decision["id"]], begun = decision["state"], {}
        for name, state in expected.items():
            found = states[name].state
            if found not in (state, begun.get(name)) and not (
                found == "replaced" and state == "suggested"
            ):
                lost.append(f"decision on {name}: {state}, found {found}")
            region = states[name]
            if (
                found == "accepted"
                and not np.asarray(stored[region.volume][region.voxels.slices]).all()
            ):
                lost.append(f"patch {name}")
    return decisions, lost


@contextlib.contextmanager
def in_viewer(folder, children):
    """A viewer whose dock has opened a project, and the dock; closed at the end of the block."""
    import napari
    from qtpy.QtTest import QTest

    from napari_emda._gui.dock import Dock
    from napari_emda._gui.process import catalogue
    from napari_emda._gui.process import runner as jobs
    from tests.gui.fake import fake_command, methods_command

    viewer = napari.Viewer()
    commands = (
        (fake_command(), methods_command())
        if children == "fake"
        else (jobs.COMMAND, catalogue.COMMAND)
    )
    dock = Dock(viewer, *commands)
    viewer.window.add_dock_widget(dock, name="napari-emda")
    dock.data.open_project(Path(folder))
    while dock.session.catalogue is None:
        QTest.qWait(20)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    yield viewer, dock
    dock.shut_down()
    viewer.close()


def main():
    folder, diary, seed, children = sys.argv[1:]
    with in_viewer(folder, children) as (viewer, dock):
        dock.annotate.suggest.main.set_values({"count": 8, "patch": 32})
        annotator = Annotator(viewer, dock, Diary(diary), int(seed))
        for _ in range(ROUNDS):
            annotator.round()


if __name__ == "__main__":
    main()
