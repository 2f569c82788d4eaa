"""Random actions of a user in a real viewer, with checks after each; replayable by a seed.

Plain napari (without the dock) gets the same sequence, to tell its own faults from ours: each step
has a random generator of its own, so that a step is the same whatever the others did.
"""

import contextlib
import traceback
from pathlib import Path

import numpy as np
from qtpy.QtCore import QTimer
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QDialog, QMessageBox

from tests.viewer.chaos import dock_actions, napari_actions
from tests.viewer.chaos.errors import Errors
from tests.viewer.chaos.projects import (
    check_project,
    fingerprints,
    kind_of,
    make_project,
    painted,
)
from tests.viewer.chaos.user import User, chance, integers, random_array
from tests.viewer.chaos.watch import CLOSING, Watch

# Milliseconds after a step in which Qt draws and children answer.
PAUSE = 20
ACTIONS = (*napari_actions.ACTIONS, *dock_actions.ACTIONS)
_WEIGHTS = np.array([weight for _, weight in ACTIONS], float)
_SHARES = _WEIGHTS / _WEIGHTS.sum()


def begin(user):
    """Open the project in the dock; plain napari gets layers of the same kinds."""
    rng = np.random.default_rng([user.seed, 1_000_002])
    if not user.plain:
        user.dock = user.new_dock(user.viewer)
        user.dock.data.open_project(user.folder)
        if chance(rng, 0.7):
            user.press("N")
        return
    placed = {"scale": (50.0, 4.6, 4.6), "units": ("nm",) * 3, "axis_labels": ("z", "y", "x")}
    for name in ("source", "target", "second")[: 1 + kind_of(user.seed)["targets"]]:
        image = random_array(rng, (5, 48, 40), 255)
        user.viewer.add_image(image, name=name, visible=name == "target", **placed)
    user.viewer.add_labels(np.zeros((5, 48, 40), np.uint8), name="annotations", **placed)


def step(user, number, script):
    """One action: of the script as far as it goes, then at random."""
    rng = np.random.default_rng([user.seed, number])
    action, _ = ACTIONS[int(rng.choice(len(ACTIONS), p=_SHARES))]
    if script:
        action = script[number]
    user.log.append(action.__name__)
    action(user, rng)
    QTest.qWait(PAUSE)


@contextlib.contextmanager
def answering(user):
    """Answer every question that stops the program, one way or the other."""
    rng = np.random.default_rng([user.seed, 1_000_003])
    timer = QTimer()

    def answer():
        box = QApplication.activeModalWidget()
        if isinstance(box, QMessageBox):
            choices = box.buttons()
            choice = choices[int(rng.integers(len(choices)))]
            user.log.append(f"answer '{choice.text()}'")
            choice.click()
        elif isinstance(box, QDialog):
            user.log.append(f"close {type(box).__name__}")
            box.reject()

    timer.timeout.connect(answer)
    timer.start(50)
    try:
        yield
    finally:
        timer.stop()


def end(user):
    """Close everything, whatever is going on."""
    rng = np.random.default_rng([user.seed, 1_000_004])
    for viewer, dock in user.others:
        if dock is not None:
            dock.shut_down()
        viewer.close()
    way = int(rng.integers(4))
    if way == 0 and user.painting is not None:
        user.log.append("close within a stroke")
        user.drag(rng, release=False)
    if way == 1:
        # As with the button of the window's frame: it may ask, and the user may stay.
        user.log.append("close the window")
        user.window.close()
    if user.dock is not None and way == 2:
        user.log.append("close the dock first")
        user.dock.shut_down()
    with contextlib.suppress(RuntimeError):
        user.viewer.close()
    if user.dock is not None:
        user.dock.shut_down()
    QTest.qWait(PAUSE)


def run(seed, steps, folder, new_viewer, *, plain=False, script=(), say=lambda text: None):
    """Run one sequence.

    Args:
        seed: of the project and of the actions.
        steps: most actions.
        folder: for the project.
        new_viewer: creates a viewer with a window.
        plain: without the dock.
        script: actions to take instead of random ones.
        say: gets a line before and after each action.

    Returns:
        The steps that were taken, what went wrong, and of what the user was warned.
    """
    folder = Path(folder)
    make_project(folder, seed)
    before = fingerprints(folder)
    with Errors() as errors:
        user = User(new_viewer(), folder, seed, plain=plain, new_viewer=new_viewer)
        watch = Watch(user)
        # Some users close in the middle.
        rng = np.random.default_rng([seed, 1_000_005])
        steps = len(script) or min(steps, integers(rng, 5, 2 * steps))
        with answering(user):
            try:
                begin(user)
                QTest.qWait(PAUSE)
                _act(user, watch, errors, steps, script, say)
            except Exception:  # noqa: BLE001 - anything is a finding
                errors.found.append(f"after {user.log[-1:]}: {traceback.format_exc()}")
            last = watch.state()
            say("  end")
            try:
                end(user)
            except Exception:  # noqa: BLE001 - anything is a finding
                errors.found.append(f"at the end: {traceback.format_exc()}")
    wrong = list(errors.found)
    if fingerprints(folder) != before:
        wrong.append("a file of a volume or of the prediction has changed")
    wrong += [] if plain else _intact(folder, watch, last)
    return user, wrong, errors.warned


def _act(user, watch, errors, steps, script, say):
    state = watch.state()
    for number in range(steps):
        # Before the step, so that the last line names the one that crashed.
        say(f"seed {user.seed} step {number}")
        step(user, number, script)
        say(f"  {user.log[-1]}")
        if not user.plain:
            before, state = state, watch.state()
            errors.found += watch.wrong(user.log[-1], before, state)
        if errors.found:
            return


def _intact(folder, watch, last):
    """Whether the project opens, with the paint that was there before the viewer closed."""
    try:
        check_project(folder)
    except Exception:  # noqa: BLE001 - anything is a finding
        return [f"the project is damaged: {traceback.format_exc()}"]
    now = painted(folder)
    wrong = []
    for volume, values in last.painted.items():
        changed = now[volume] != values
        # The stroke under way, and the revision of a patch that was done, are completed.
        if changed.any():
            wrong += watch.changed(CLOSING, last, volume, changed)
    return wrong
