"""Random actions on layers, as a user takes them, with checks after each; replayable by a seed.

Plain napari (without the dock) gets the same sequence, to tell its own faults from ours: each step
has a random generator of its own, so that a step is the same whatever the others did.
"""

import contextlib
import hashlib
import threading
import traceback
from pathlib import Path

import numpy as np
from napari.layers import Image, Labels
from napari.utils.notifications import notification_manager
from qtpy.QtCore import Qt, QtMsgType, qInstallMessageHandler
from qtpy.QtTest import QTest

from napari_emda._gui.dock import Dock
from napari_emda.project.project import Project
from tests.gui.fake import fake_command, methods_command

SHAPE = (5, 48, 40)
SPACING = (50.0, 4.6, 4.6)
PLACED = {"scale": SPACING, "units": ("nm",) * 3, "axis_labels": ("z", "y", "x")}
# Milliseconds after a step in which Qt draws and children answer.
PAUSE = 20
# Plain napari has none of these: they keep their place in the sequence and do nothing.
IN_DOCK = (
    "next",
    "back",
    "done",
    "partial",
    "skip",
    "unsure",
    "undo",
    "bare",
    "uncertainty",
    "mask",
    "outlines",
    "brush",
    "draw",
)


def make_project(folder, seed=0):
    """A project with a source, two targets of one shape, and a prediction of the first."""
    import zarr

    rng = np.random.default_rng(seed)
    with Project.create(folder, ("background", "mitochondria", "vesicles")) as project:
        volumes = project.volumes
        for name, domain in (("source", "source"), ("target", "target"), ("second", "target")):
            image = rng.integers(0, 255, SHAPE).astype(np.uint8)
            labels = None
            if domain == "source":
                labels = volumes.store("labels", (image > 200).astype(np.uint8))
            path = volumes.store(name, image)
            volumes.add(path, domain, labels=labels, name=name, spacing=SPACING)
        run = project.folder / "runs" / "001-fake"
        run.mkdir(parents=True)
        (run / "checkpoint.safetensors").touch()
        values = rng.integers(0, 120, (2, *SHAPE)).astype(np.uint8)
        for group, array in (("probabilities.zarr", values), ("uncertainty.zarr", values[0])):
            zarr.open_group(run / group, mode="a")
            chunks = (*(1,) * (array.ndim - 2), *SHAPE[1:])
            zarr.create_array(run / group / "target", data=array, chunks=chunks)


def fingerprints(folder):
    """A hash of each file that no action may change: images, labels, predictions."""
    paths = [*(folder / "volumes").rglob("*"), *(folder / "runs" / "001-fake").rglob("*.zarr/**/*")]
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(paths)
        if path.is_file()
    }


class Errors:
    """Collects what goes wrong anywhere in the process."""

    def __init__(self):
        self.found = []

    def __enter__(self):
        self._threads = threading.excepthook
        threading.excepthook = lambda args: self.found.append(f"thread: {args.exc_value!r}")
        self._qt = qInstallMessageHandler(self._on_qt)
        notification_manager.notification_ready.connect(self._on_notification)
        return self

    def __exit__(self, *args):
        threading.excepthook = self._threads
        qInstallMessageHandler(self._qt)
        notification_manager.notification_ready.disconnect(self._on_notification)

    def _on_qt(self, kind, context, message):
        if kind in (QtMsgType.QtCriticalMsg, QtMsgType.QtFatalMsg):
            self.found.append(f"Qt: {message}")

    def _on_notification(self, notification):
        if str(notification.severity) == "error":
            error = getattr(notification, "exception", None)
            lines = traceback.format_exception(error) if error is not None else []
            self.found.append(f"napari: {notification.message}\n{''.join(lines)}")


class Chaos:
    """One sequence of actions in one viewer.

    Args:
        viewer: with a window.
        folder: of the project, and of files that are saved.
        seed: of the sequence.
        plain: without the dock.
        second: creates another viewer.
    """

    def __init__(self, viewer, folder, seed, *, plain, second):
        self.viewer = viewer
        self.folder = folder
        self.seed = seed
        self.plain = plain
        self.dock = None
        self.others = []
        self._second = second
        self.log = []
        self.actions = [
            self.rename, self.remove, self.remove, self.reorder, self.move, self.rescale,
            self.hide, self.hide, self.transpose, self.roll, self.three_d, self.theme,
            self.save_and_load, self.napari_undo, self.stroke, self.stroke, self.slide,
            self.resize, self.add, self.duplicate, self.clear, self.second_viewer,
            *(self._command(name) for name in IN_DOCK),
            *(self._command(name) for name in ("next", "next", "done")),
            self.suggest, self.suggest, self.predict, self.train, self.stop, self.show_again,
            self.open_again, self.dock_again,
        ]  # fmt: skip

    # -- running -----------------------------------------------------------------------------

    def begin(self):
        if self.plain:
            for name in ("source", "target", "second"):
                image = np.random.default_rng(0).integers(0, 255, SHAPE).astype(np.uint8)
                self.viewer.add_image(image, name=name, visible=name == "target", **PLACED)
            self.viewer.add_labels(np.zeros(SHAPE, np.uint8), name="annotations", **PLACED)
            return
        self.dock = self._new_dock(self.viewer)
        self.dock.data.open_project(self.folder)

    def _new_dock(self, viewer):
        dock = Dock(viewer, fake_command(), methods_command())
        viewer.window.add_dock_widget(dock, name="napari-emda")
        return dock

    def step(self, number):
        """One action; returns its name."""
        rng = np.random.default_rng([self.seed, number])
        action = self.actions[int(rng.integers(len(self.actions)))]
        self.log.append(action.__name__)
        action(rng)
        QTest.qWait(PAUSE)
        return action.__name__

    def end(self):
        """Close everything, whatever is going on; returns the folder's state as a project."""
        for viewer, dock in self.others:
            dock.shut_down()
            viewer.close()
        if self.dock is not None:
            self.dock.shut_down()
        self.viewer.close()
        QTest.qWait(PAUSE)

    def _command(self, name):
        def act(rng):
            if self.dock is not None:
                self.dock.annotate.commands[name]()
                self._check_patch()

        act.__name__ = name
        return act

    def _check_patch(self):
        """What is painted is the picture of the patch's volume, and no other lies over it."""
        patches = self.dock.annotate.patches
        if patches is None or patches.current is None or self.log[-1] not in ("next", "back"):
            return
        opened = self.dock.session.opened
        image = opened.image(patches.current.volume)
        assert image is not None and image.visible, "the volume of the patch is not on view"
        above = self.viewer.layers[self.viewer.layers.index(image) + 1 :]
        assert not any(opened.is_volume(layer) and layer.visible for layer in above), "covered"

    def _layer(self, rng, kind=None):
        layers = [layer for layer in self.viewer.layers if kind is None or isinstance(layer, kind)]
        return layers[int(rng.integers(len(layers)))] if layers else None

    # -- what napari offers ------------------------------------------------------------------

    def rename(self, rng):
        layer = self._layer(rng)
        if layer is not None:
            layer.name = str(rng.choice(["target", "x", "emda: mask", "source labels", "ü ✓"]))

    def remove(self, rng):
        layer = self._layer(rng)
        if layer is not None:
            self.viewer.layers.remove(layer)

    def clear(self, rng):
        # Rarely, or nothing would be left for the other actions.
        if rng.random() < 0.3:
            self.viewer.layers.clear()

    def reorder(self, rng):
        count = len(self.viewer.layers)
        if count > 1:
            self.viewer.layers.move(*(int(index) for index in rng.integers(count, size=2)))

    def move(self, rng):
        layer = self._layer(rng)
        if layer is not None:
            layer.translate = rng.integers(-2, 3, layer.ndim) * np.array(layer.scale)

    def rescale(self, rng):
        layer = self._layer(rng)
        if layer is not None:
            layer.scale = np.array(layer.scale) * float(rng.choice([0.5, 1, 2]))

    def hide(self, rng):
        layer = self._layer(rng)
        if layer is not None:
            layer.visible = not layer.visible

    def transpose(self, rng):
        self.viewer.dims.transpose()

    def roll(self, rng):
        self.viewer.dims.roll()

    def three_d(self, rng):
        self.viewer.dims.ndisplay = 5 - self.viewer.dims.ndisplay

    def theme(self, rng):
        self.viewer.theme = "light" if self.viewer.theme == "dark" else "dark"

    def slide(self, rng):
        axis = int(rng.integers(self.viewer.dims.ndim))
        low, high, _ = self.viewer.dims.range[axis]
        self.viewer.dims.set_point(axis, rng.uniform(low, high))

    def resize(self, rng):
        width, height = rng.integers((900, 550), (1366, 768))
        self.viewer.window.resize(int(width), int(height))

    def add(self, rng):
        values = rng.integers(0, 3, SHAPE[int(rng.integers(2)) :]).astype(np.uint8)
        adding = (self.viewer.add_image, self.viewer.add_labels)[int(rng.integers(2))]
        adding(values, name="mine", scale=SPACING[-values.ndim :], units=("nm",) * values.ndim)

    def duplicate(self, rng):
        layer = self._layer(rng, (Image, Labels))
        if layer is not None:
            data, state, kind = layer.as_layer_data_tuple()
            self.viewer.add_layer(type(layer).create(np.asarray(data), state, kind))

    def save_and_load(self, rng):
        layer = self._layer(rng, (Image, Labels))
        if layer is not None:
            path = self.folder.parent / f"saved-{self.seed}-{len(self.log)}.tif"
            # Refused for some data, in words: that is napari's writer.
            with contextlib.suppress(ValueError, OSError):
                layer.save(str(path))
            if path.exists():
                self.viewer.open(str(path), plugin="napari")

    def napari_undo(self, rng):
        layer = self.viewer.layers.selection.active
        if isinstance(layer, Labels) and layer.editable:
            layer.undo() if rng.random() < 0.7 else layer.redo()

    def stroke(self, rng):
        """A drag over the canvas, with whatever tool is active."""
        canvas = self.viewer.window._qt_viewer.canvas.native
        size = canvas.size()
        points = [canvas.rect().center()]
        for _ in range(3):
            x, y = rng.uniform(0.2, 0.8, 2)
            points.append(type(points[0])(int(x * size.width()), int(y * size.height())))
        QTest.mousePress(canvas, Qt.MouseButton.LeftButton, pos=points[0])
        for point in points[1:]:
            QTest.mouseMove(canvas, point)
            QTest.qWait(12)
        QTest.mouseRelease(canvas, Qt.MouseButton.LeftButton, pos=points[-1])

    # -- what the dock offers ----------------------------------------------------------------

    def suggest(self, rng):
        if self.dock is not None:
            self._press(self.dock.annotate.suggest.start)

    def predict(self, rng):
        if self.dock is not None:
            self._press(self.dock.predict.start)

    def train(self, rng):
        if self.dock is not None:
            self.dock.train.main.set_values({"steps": 200})
            self._press(self.dock.train.start)

    def stop(self, rng):
        runner = self.dock.session.runner if self.dock is not None else None
        if runner is not None and runner.job is not None:
            runner.say("stop")

    def show_again(self, rng):
        if self.dock is not None:
            self._press(self.dock.missing.show_again)

    def _press(self, button):
        if button.isEnabled():
            button.click()

    def open_again(self, rng):
        if self.dock is not None:
            self.dock.data.open_project(self.folder)

    def dock_again(self, rng):
        """Close the dock and open another one with the same project."""
        if self.dock is not None:
            self.dock.shut_down()
            self.viewer.window.remove_dock_widget(self.dock)
            self.dock = self._new_dock(self.viewer)
            self.dock.data.open_project(self.folder)

    def second_viewer(self, rng):
        """Another viewer, with its own dock, which may not have the same project."""
        if self.others or self.plain:
            return
        other = self._second()
        dock = self._new_dock(other)
        dock.data.open_project(self.folder)
        assert dock.session.opened is None, "two docks write to one project"
        self.others.append((other, dock))


def run(seed, steps, folder, new_viewer, *, plain=False, say=lambda text: None):
    """Run one sequence; returns the steps that were taken and what went wrong."""
    folder = Path(folder)
    make_project(folder)
    before = fingerprints(folder)
    with Errors() as errors:
        chaos = Chaos(new_viewer(), folder, seed, plain=plain, second=new_viewer)
        chaos.begin()
        QTest.qWait(PAUSE)
        for number in range(steps):
            # Before the step, so that the last line names the one that crashed.
            say(f"seed {seed} step {number}")
            try:
                say(f"  {chaos.step(number)}")
            except Exception:  # noqa: BLE001 - anything is a finding
                errors.found.append(f"in {chaos.log[-1]}: {traceback.format_exc()}")
            if errors.found:
                break
        try:
            chaos.end()
        except Exception:  # noqa: BLE001 - anything is a finding
            errors.found.append(f"at the end: {traceback.format_exc()}")
    wrong = list(errors.found)
    if fingerprints(folder) != before:
        wrong.append("a file of a volume or of the prediction has changed")
    try:
        check_project(folder)
    except Exception:  # noqa: BLE001 - anything is a finding
        wrong.append(f"the project is damaged: {traceback.format_exc()}")
    return chaos.log, wrong


def check_project(folder):
    """The project opens, and its annotations hold classes only."""
    with Project.open(folder, exclusive=True) as project:
        regions = project.regions.all()
        for volume in {region.volume for region in regions}:
            stored = np.asarray(project.annotations.open(volume)[:])
            assert stored.max() <= len(project.classes), "a number that is no class"
