"""What the dock offers, by keys on the canvas and by its buttons, as actions of a sequence."""

from qtpy.QtCore import QEvent, Qt
from qtpy.QtTest import QTest

from napari_emda._gui.dock import Dock
from tests.gui.fake import fake_command, methods_command
from tests.viewer.chaos.user import chance, integers

# Keys of the round: how often each is pressed.
_KEYS = {
    "next": ("N", 7),
    "back": ("Shift-N", 2),
    "done": ("K", 4),
    "partial": ("Shift-K", 1.5),
    "skip": ("J", 1),
    "unsure": ("Shift-J", 0.7),
    "undo": ("U", 3),
    "redo": ("Shift-U", 1),
    "bare": ("H", 1.5),
    "uncertainty": ("Shift-H", 1),
    "mask": ("M", 1.5),
    "outlines": ("O", 1),
    "escape": ("Escape", 1),
    "delete_patch": ("Delete", 0.7),
}


def _key(name, key):
    def act(user, rng):
        if user.dock is not None:
            user.press(key)

    act.__name__ = name
    return act


def _press(button):
    if button.isEnabled() and button.isVisibleTo(button.window()):
        QTest.mouseClick(button, Qt.MouseButton.LeftButton)
        return True
    return False


def draw(user, rng):
    """Draw a patch on the canvas; some give up."""
    if user.dock is not None:
        user.press("W")
        if chance(rng, 0.7):
            user.drag(rng)
        elif chance(rng, 0.5):
            user.press("Escape")


def correct(user, rng):
    """Correct by object, with the smart brush or between sections; sizes are changed, too."""
    if user.dock is None:
        return
    user.press(str(rng.choice(["C", "C", "C", "S", "I", "P"])))
    point = user.point(rng)
    if chance(rng, 0.4):
        # Until what a click would do is drawn.
        user.mouse(QEvent.Type.MouseMove, point, held=False)
        QTest.qWait(80)
        if chance(rng, 0.6):
            user.press("BracketLeft" if chance(rng, 0.5) else "BracketRight")
    # Last, because a click may lead to another patch.
    if chance(rng, 0.8):
        user.click(point)
    else:
        user.drag(rng)


def click_list(user, rng):
    """Click an entry of the list of patches."""
    if user.dock is not None and user.dock.annotate.list.count():
        entries = user.dock.annotate.list
        row = entries.visualItemRect(entries.item(integers(rng, 0, entries.count())))
        QTest.mouseClick(entries.viewport(), Qt.MouseButton.LeftButton, pos=row.center())


def click_canvas(user, rng):
    """A click without a tool, as on a rectangle."""
    user.press("Z")
    user.click(user.point(rng))


def outside(user, rng):
    """Let the brush leave the patch, or not."""
    if user.dock is not None:
        user.dock.annotate.painting.outside.toggle()


def suggest(user, rng):
    if user.dock is not None and _started(user, "Annotate", user.dock.annotate.suggest.start):
        user.watch()


def audit(user, rng):
    if user.dock is not None and _started(user, "Annotate", user.dock.annotate.curve.start):
        user.watch()


def predict(user, rng):
    if user.dock is not None and _started(user, "Predict", user.dock.predict.start):
        user.watch()


def train(user, rng):
    """Start a training; some watch its first previews."""
    if user.dock is not None:
        user.dock.train.main.set_values({"steps": 2000})
        if _started(user, "Train", user.dock.train.start) and chance(rng, 0.5):
            QTest.qWait(integers(rng, 100, 1500))


def retrain(user, rng):
    if user.dock is not None:
        user.dock.annotate.retrain.steps.setValue(30)
        _started(user, "Annotate", user.dock.annotate.retrain.start)


def _started(user, panel, start):
    """Press a button that starts a job, as a user who has opened its panel."""
    user.dock.show_only(panel)
    if panel == "Annotate":
        user.dock.annotate.suggest_drawer.set_open(True)
        user.dock.annotate.curve_drawer.set_open(True)
    return _press(start) and user.dock.session.runner.job is not None


def stop(user, rng):
    """Stop the job with the button of its strip."""
    if user.dock is None or user.dock.session.runner.job is None:
        return
    user.dock.session.runner.say("stop")
    if chance(rng, 0.5):
        user.watch()


def threshold(user, rng):
    if user.dock is not None:
        user.dock.predict.threshold.setValue(float(rng.uniform(0.1, 0.9)))


def import_labels(user, rng):
    """Take a labels layer of the user as annotations."""
    if user.dock is not None:
        user.dock.annotate.imports.take.click()
        QTest.qWait(integers(rng, 1, 200))


def show_again(user, rng):
    if user.dock is not None and not user.dock.missing.isHidden():
        _press(user.dock.missing.show_again)


def open_again(user, rng):
    if user.dock is not None:
        user.dock.data.open_project(user.folder)


def dock_again(user, rng):
    """Close the dock and open another one with the same project."""
    if user.dock is not None:
        dock = user.dock
        # As with the cross of the dock: a running job makes it ask, and the user may stay.
        if chance(rng, 0.5):
            user.viewer.window.remove_dock_widget(dock)
            QTest.qWait(100)
            if not dock.session.closed:
                return
        else:
            dock.shut_down()
            user.viewer.window.remove_dock_widget(dock)
        user.dock = user.new_dock(user.viewer)
        user.dock.data.open_project(user.folder)


def second_viewer(user, rng):
    """Another viewer, with its own dock, which may not have the same project; or close it."""
    if user.others:
        viewer, dock = user.others.pop()
        if dock is not None:
            dock.shut_down()
        viewer.close()
        return
    other = user.new_viewer()
    dock = None
    if not user.plain:
        dock = user.new_dock(other)
        dock.data.open_project(user.folder)
        assert dock.session.opened is None, "two docks write to one project"
    user.others.append((other, dock))


def second_dock(user, rng):
    """Another dock in the same viewer, which may not have the same project either."""
    if user.dock is not None:
        # Some close it before it is built.
        if chance(rng, 0.3):
            dock = Dock(user.viewer, fake_command(), methods_command())
            user.viewer.window.add_dock_widget(dock, name="napari-emda")
            QTest.qWait(integers(rng, 1, 100))
            user.viewer.window.remove_dock_widget(dock)
            return
        dock = user.new_dock(user.viewer)
        dock.data.open_project(user.folder)
        assert dock.session.opened is None, "two docks write to one project"
        dock.shut_down()
        user.viewer.window.remove_dock_widget(dock)


ACTIONS = (
    *((_key(name, key), weight) for name, (key, weight) in _KEYS.items()),
    (draw, 2),
    (correct, 8),
    (click_list, 2),
    (click_canvas, 1),
    (outside, 1),
    (suggest, 2),
    (audit, 0.7),
    (predict, 0.7),
    (train, 1),
    (retrain, 0.5),
    (stop, 1),
    (threshold, 0.7),
    (import_labels, 0.7),
    (show_again, 4),
    (open_again, 0.7),
    (dock_again, 0.7),
    (second_viewer, 0.5),
    (second_dock, 0.5),
)
