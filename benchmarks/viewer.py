"""How long the viewer stands still in each step of the work, and how soon each button answers.

    xvfb-run -a -s "-screen 0 1366x768x24" python -m benchmarks.viewer --write

Goes through the whole work in a visible viewer, with real child processes: open the dock, make a
project, train, suggest, paint, accept, retrain, predict, export; with the mouse and keys. Prints
one row for each step: the longest freeze (largest gap between two ticks of a 20 ms timer), the
processor's seconds of the main thread in the freeze in which it worked most, the same work in plain
napari where it can be done there, seconds from the click to the first sign of it in the dock, to
the first event of the job and to its first result, and for jobs the largest factor between the time
left as shown and as it was, from a quarter of the job on. ``--write`` puts the table into
docs/benchmarks.md.

On a machine that others use, a freeze is longer than the work in it: the second column is about
what an idle machine would show.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import napari
import numpy as np
from napari.utils import DirectLabelColormap
from qtpy.QtCore import Qt, QTimer
from qtpy.QtTest import QTest

from benchmarks import factor, parser_of
from benchmarks.adaptation_report import write
from napari_emda._gui.common.adapters import Placement
from napari_emda._gui.common.load_ahead import is_loaded, load_ahead, load_units
from napari_emda._gui.guide.step_line import StepLine
from napari_emda.synthetic.phantom import SPACING, phantom
from tests.viewer.hands import Hands

# Milliseconds between two ticks.
TICK = 20

# A gap of so many seconds is felt as a freeze.
FREEZE = 0.3


@dataclass
class Step:
    """What was measured in one step of the work; seconds."""

    name: str
    freeze: float = 0.0
    busy: float = 0.0
    sign: float | None = None
    answer: float | None = None
    result: float | None = None
    shown: list[tuple[float, float]] = field(default_factory=list)
    began: float = 0.0
    ended: float = 0.0
    plain: float | None = None

    def error(self) -> float | None:
        """Largest factor between the time left as shown and as it was."""
        quarter = self.began + (self.ended - self.began) / 4
        return max(
            (factor(shown, self.ended - at) for at, shown in self.shown if at >= quarter),
            default=None,
        )

    def row(self) -> str:
        """The step as a line of the table."""

        def cell(value: float | None) -> str:
            return "–" if value is None else f"{value:.2f}"

        waits = (cell(self.sign), cell(self.answer), cell(self.result))
        freeze = (cell(self.freeze), cell(self.busy), cell(self.plain))
        cells = (*freeze, *waits, cell(self.error()))
        return f"| {self.name} | " + " | ".join(cells) + " |"


class Sampler:
    """Looks every 20 ms where the main thread is, to say what it did in the freezes.

    Attributes:
        found: by step, how often each chain of calls was seen in a freeze.
    """

    def __init__(self) -> None:
        self.found: dict[str, Counter[str]] = {}
        self._main = threading.get_ident()
        self._recent: list[str] = []
        threading.Thread(target=self._sample, daemon=True).start()

    def _sample(self) -> None:
        while True:
            time.sleep(TICK / 1000)
            frame = sys._current_frames().get(self._main)
            stack = traceback.extract_stack(frame) if frame is not None else []
            frames = [entry for entry in stack if "napari_emda" in entry.filename][-3:]
            other = [entry for entry in stack if "/napari/" in entry.filename][-2:]
            chain = [*frames, *other, *stack[-1:]]
            self._recent.append(" > ".join(f"{Path(e.filename).stem}.{e.name}" for e in chain))

    def sort_out(self, step: str, gap: float) -> None:
        """Keep what was seen since the last call if it was a freeze."""
        seen = self._recent
        self._recent = []
        if gap > FREEZE:
            self.found.setdefault(step, Counter()).update(seen)

    def tell(self) -> None:
        """Print the most frequent chains of each step."""
        for step, chains in self.found.items():
            print(f"{step}: {sum(chains.values())} samples")
            for chain, count in chains.most_common(8):
                print(f"  {count:4d} {chain}")


class Watch:
    """Ticks, and measures one step after the other.

    Attributes:
        steps: that were measured.
        strips: of the running job; what they show of the time left is noted.
        modules: packages that were imported, by step.
    """

    def __init__(self, sampler: Sampler | None = None) -> None:
        self.steps: list[Step] = []
        self._sampler = sampler
        self._last_busy = time.thread_time()
        self.strips: list = []
        self.modules: dict[str, list[str]] = {}
        self._last = time.perf_counter()
        self._timer = QTimer()
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.setInterval(TICK)
        self._timer.timeout.connect(self._tick)
        self._timer.start()

    def _tick(self) -> None:
        now = time.perf_counter()
        busy = time.thread_time()
        if self.steps:
            step = self.steps[-1]
            step.freeze = max(step.freeze, now - self._last - TICK / 1000)
            step.busy = max(step.busy, busy - self._last_busy)
            if self._sampler is not None:
                self._sampler.sort_out(step.name, now - self._last)
            for strip in self.strips:
                shown = strip.time_left
                if not strip.isHidden() and shown is not None:
                    step.shown.append((now, shown))
        self._last = now
        self._last_busy = busy

    def step(
        self,
        name: str,
        act: Callable[[], object],
        *,
        sign: Callable[[], bool] | None = None,
        answer: Callable[[], bool] | None = None,
        result: Callable[[], bool] | None = None,
        over: Callable[[], bool] | None = None,
    ) -> None:
        """Do something and wait until it is over.

        Args:
            name: of the row.
            act: presses the button.
            sign: whether the viewer shows that it was pressed.
            answer: whether the process of the job has answered.
            result: whether its first result is on view.
            over: whether the step is over; by default with its result.
        """
        before = set(sys.modules)
        step = Step(name)
        # A gap before the step is not part of it.
        self._last = step.began = time.perf_counter()
        self._last_busy = time.thread_time()
        self.steps.append(step)
        act()
        QTest.qWait(1)
        waits = (("sign", sign), ("answer", answer), ("result", result), ("", over))
        for attribute, condition in waits:
            while condition is not None and not condition():
                QTest.qWait(5)
            if attribute and condition is not None:
                setattr(step, attribute, time.perf_counter() - step.began)
        step.ended = time.perf_counter()
        # The step goes on until everything is drawn.
        QTest.qWait(300)
        self.modules[name] = sorted({module.split(".")[0] for module in set(sys.modules) - before})


def click(button) -> None:
    """Press a button as a user does."""
    QTest.mouseClick(button, Qt.MouseButton.LeftButton)


def table(watch: Watch) -> str:
    """The steps as a table."""
    freezes = ("longest freeze (s)", "work in one (s)", "plain napari (s)")
    waits = ("first sign (s)", "job answers (s)", "first result (s)")
    heads = ("step", *freezes, *waits, "time left, factor")
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    return "\n".join([*lines, *(step.row() for step in watch.steps)])


def compare(watch: Watch, side: int) -> None:
    """Note what the same layers cost in a plain viewer, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.viewer", "--plain", "--side", str(side)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    costs = json.loads(done.stdout.splitlines()[-1])
    for step in watch.steps:
        step.plain = costs.get(step.name)


def plain(options) -> None:
    """Print what the layers of the work cost in a plain viewer, as JSON."""
    volumes = phantoms(options.side)
    viewer = napari.Viewer()
    QTest.qWait(1000)
    watch = Watch()
    watch.step("open three layers", lambda: add_layers(viewer, *volumes))
    corners = np.array([[0, 0, 0], [0, 0, 32], [0, 32, 32], [0, 32, 0]], float)
    watch.step("Suggest patches", lambda: suggestions(viewer, volumes[2], corners))
    watch.step("Predict", lambda: prediction(viewer, *volumes[1:]))
    watch.step("close the dock", lambda: remove(viewer))
    costs = {step.name: step.busy for step in watch.steps}
    viewer.close()
    print(json.dumps(costs))


def suggestions(viewer, target: np.ndarray, corners: np.ndarray) -> None:
    """Layers like those that come with suggestions."""
    where = Placement(SPACING).arguments()
    colours = {None: "transparent", 0: "transparent", 1: "red", 2: "blue"}
    colormap = DirectLabelColormap(color_dict=colours)
    viewer.add_labels(np.zeros(target.shape, np.uint8), colormap=colormap, **where)
    viewer.add_shapes([corners, corners + 8], ndim=3, face_color="transparent", **where)
    viewer.add_image(target, colormap="magma", blending="additive", **where)


def prediction(viewer, labels: np.ndarray, target: np.ndarray) -> None:
    """Layers like those of a prediction: a mask, and hidden probabilities in colours."""
    where = Placement(SPACING).arguments()
    viewer.add_labels(labels, **where)
    coloured = np.repeat(target[..., np.newaxis], 3, axis=-1)
    viewer.add_image(coloured, rgb=True, visible=False, **where)


def remove(viewer) -> None:
    """Remove the layers that came with suggestions and predictions."""
    with viewer.layers.batched_update():
        for layer in list(viewer.layers)[3:]:
            viewer.layers.remove(layer)


def work(watch: Watch, viewer, options, folder: Path) -> None:
    """The whole work, from an empty viewer to an exported mask."""
    volumes = phantoms(options.side)
    dock = open_dock(watch, viewer, options)
    session = dock.session
    runner = session.runner
    # While the user looks for files.
    watch.step("the dock loads ahead", lambda: load(options), over=is_loaded)
    watch.step("open three layers", lambda: add_layers(viewer, *volumes))
    watch.step("methods are listed", lambda: None, result=lambda: session.catalogue is not None)
    dock.data.folder.setText(str(folder / "project"))
    watch.step(
        "Use these layers", lambda: click(dock.data.use), result=lambda: session.opened is not None
    )
    dock.show_only("Train")
    dock.train.main.set_values({"profile": options.profile})
    dock.train.main.set_values({"steps": options.steps})
    if options.profile == "test":
        dock.train.advanced.set_values({"patch": 32, "batch": 2})
    # What a user reads meanwhile, the waiting process needs to load.
    if runner.standby is not None:
        watch.step("a process waits", lambda: None, over=lambda: runner.standby.ready)
    drawn = dock.train.curves
    job(watch, runner, dock.train, "Start", lambda: drawn.losses is not None)
    dock.annotate.suggest.main.set_values({"count": 2, "patch": 32})
    dock.show_only("Annotate")
    listed = dock.annotate.list
    job(watch, runner, dock.annotate.suggest, "Suggest patches", lambda: listed.count() > 0)
    hands = Hands(viewer, session)
    watch.step("open a patch (N)", lambda: hands.press("N"))
    watch.step("take the brush (P)", lambda: hands.press("P"))
    watch.step("paint a stroke", lambda: stroke(hands, dock.annotate.patches.current))
    watch.step("accept (K)", lambda: hands.press("K"))
    watch.step("undo (U)", lambda: hands.press("U"))
    watch.step("accept again (K)", lambda: hands.press("K"))
    dock.annotate.retrain.steps.setValue(options.steps)
    job(watch, runner, dock.annotate.retrain, "Retrain", lambda: True)
    dock.show_only("Predict")
    predicted = lambda: session.opened.output("mask", "target") is not None  # noqa: E731
    job(watch, runner, dock.predict, "Predict", predicted)
    dock.show_only("Export")
    path = folder / "mask.tif"
    dock.export.path.setText(str(path))
    dock.export.path.setModified(True)
    job(watch, runner, dock.export, "Export", lambda: True)
    watch.step("close the dock", dock.shut_down)


def job(watch: Watch, runner, panel, name: str, result: Callable[[], bool]) -> None:
    """A job, from the click on its button to its end."""
    strip = panel.strip
    idle = lambda: runner.job is None  # noqa: E731
    answered = []
    runner.happened.connect(answered.append)
    watch.strips = [strip]
    watch.step(
        name,
        lambda: click(panel.start),
        sign=lambda: not strip.isHidden() or idle(),
        answer=lambda: bool(answered) or idle(),
        result=lambda: result() or idle(),
        over=idle,
    )
    runner.happened.disconnect(answered.append)


def stroke(hands: Hands, region) -> None:
    """A stroke of the brush through a patch."""
    z, y, x = region.voxels.start
    hands.stroke(region.volume, [(z, y + 8, x + 4 + step) for step in range(0, 20, 2)])


def phantoms(side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Source, its labels, and target."""
    source, labels = phantom((8, side, side), "source", 0)
    return source, labels, phantom((8, side, side), "target", 0)[0]


def add_layers(viewer, source: np.ndarray, labels: np.ndarray, target: np.ndarray) -> None:
    """The phantom, as a user would open it."""
    where = Placement(SPACING).arguments()
    viewer.add_image(source, name="source", **where)
    viewer.add_labels(labels, name="source mitochondria", **where)
    viewer.add_image(target, name="target", **where)


def open_dock(watch: Watch, viewer, options):
    """The dock; its imports are part of the step."""
    docks = []

    def act() -> None:
        from napari_emda._gui.dock import Dock

        if options.fake:
            from tests.gui.fake import fake_command, methods_command

            docks.append(Dock(viewer, fake_command(), methods_command()))
        else:
            docks.append(Dock(viewer))
        viewer.window.add_dock_widget(docks[0], name="napari-emda")

    # Asking for a part of the dock would build it at once.
    built = lambda: docks[0].findChild(StepLine) is not None  # noqa: E731
    watch.step("open the dock", act, sign=lambda: docks[0].isVisible(), result=built)
    return docks[0]


def load(options) -> None:
    """With fake children, the dock loads nothing ahead by itself."""
    if options.fake:
        load_units()
        threading.Thread(target=load_ahead, daemon=True).start()


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--side", type=int, default=256, help="pixels along a side of the phantom")
    parser.add_argument("--steps", type=int, default=200, help="of each training")
    parser.add_argument("--profile", default="fast", help="of the trainings")
    parser.add_argument("--fake", action="store_true", help="children that only say they work")
    parser.add_argument("--plain", action="store_true", help="only what plain napari takes")
    parser.add_argument("--write", action="store_true", help="put the table into the docs")
    parser.add_argument("--stacks", action="store_true", help="print what happens in freezes")
    parser.add_argument("--modules", action="store_true", help="print what each step imports")
    options = parser.parse_args()
    if options.plain:
        plain(options)
        return
    viewer = napari.Viewer()
    QTest.qWait(1000)
    sampler = Sampler() if options.stacks else None
    watch = Watch(sampler)
    with tempfile.TemporaryDirectory() as folder:
        work(watch, viewer, options, Path(folder))
        viewer.close()
    compare(watch, options.side)
    print(table(watch), flush=True)
    if options.write:
        write("viewer", table(watch))
    if sampler is not None:
        sampler.tell()
    if options.modules:
        for name, modules in watch.modules.items():
            print(name, *modules)


if __name__ == "__main__":
    main()
