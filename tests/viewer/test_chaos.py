"""Random sequences of actions, and that their checks see what they are there for.

More of them: ``python -m benchmarks.layer_chaos``.
"""

import threading

import numpy as np
import pytest

from napari_emda._gui.annotate import paint
from napari_emda._gui.annotate.draft import Draft
from napari_emda._gui.annotate.patch_list import PatchList
from napari_emda._gui.annotate.patches import Patches
from napari_emda._gui.common.adapters import Placement
from napari_emda._gui.open_project import OpenProject
from napari_emda.project.regions import Regions
from tests.viewer.chaos import dock_actions, napari_actions
from tests.viewer.chaos.projects import kind_of
from tests.viewer.chaos.sequence import run

KEYS = {action.__name__: action for action, _ in dock_actions.ACTIONS}
# Three classes with one target, and two targets.
SEEDS = [0, 2]


@pytest.fixture
def sequence(make_napari_viewer, tmp_path):
    """Run a sequence; returns what went wrong, as one text."""

    def run_one(*script, seed=0, steps=8):
        def new_viewer():
            return make_napari_viewer(show=True)

        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        user, wrong, _ = run(seed, steps, folder / "project", new_viewer, script=script)
        return "\n".join([*wrong, f"after {user.log}"] if wrong else [])

    return run_one


def test_the_first_seeds_have_three_classes_and_two_targets():
    kinds = [kind_of(seed) for seed in SEEDS]
    assert any(kind["classes"] == 3 for kind in kinds)
    assert {kind["targets"] for kind in kinds} == {1, 2}


# That two targets stay apart is held by `test_removed_layers` and `tests/gui/annotate/test_seen`.
@pytest.mark.parametrize("seed", [SEEDS[0], pytest.param(SEEDS[1], marks=pytest.mark.slow)])
def test_a_random_sequence_of_actions(sequence, seed):
    assert not sequence(seed=seed)


# -- the checks see ... ----------------------------------------------------------------------------


def brush(user, rng):
    """Take the brush, for the second class."""
    user.press("2")
    user.dock.annotate.tools.select_brush(5)


def show_another(user, rng):
    """Show the other target over the one that is painted."""
    opened = user.opened
    (other,) = {"target", "second"} - {user.current.volume}
    layers = user.viewer.layers
    image = opened.image(other)
    image.visible = True
    layers.move(layers.index(image), layers.index(opened.image(user.current.volume)) + 1)


def move_paint(user, rng):
    user.opened.output("annotations", user.current.volume).translate = (0, 46, 46)


def write_on_disk(user, rng):
    """As if the program wrote to the user's image."""
    path = user.folder.parent / "target.tif"
    path = path if path.exists() else next((user.folder / "volumes").rglob("zarr.json"))
    path.write_bytes(path.read_bytes() + b" ")


def fail_in_thread(user, rng):
    thread = threading.Thread(target=lambda: 1 // 0)
    thread.start()
    thread.join()


def broken(*args, **values):
    raise RuntimeError("as if it had failed")


def test_an_error_in_a_slot(sequence, monkeypatch):
    monkeypatch.setattr(PatchList, "show_regions", broken)
    assert "as if it had failed" in sequence(KEYS["next"])


@pytest.mark.slow
def test_an_error_in_a_thread(sequence):
    assert "ZeroDivisionError" in sequence(fail_in_thread)


@pytest.mark.slow
def test_paint_outside_the_patch(sequence, monkeypatch):
    monkeypatch.setattr(Draft, "_reachable", lambda self, parts: np.True_)
    wide = napari_actions.options
    assert "of them where it may not" in sequence(KEYS["next"], wide, *(napari_actions.stroke,) * 6)


@pytest.mark.slow
def test_paint_in_another_volume_than_the_one_on_view(sequence, monkeypatch):
    script = (KEYS["next"], show_another, brush, *(napari_actions.stroke,) * 3)
    assert not sequence(*script, seed=SEEDS[0])
    monkeypatch.setattr(paint, "seen_instead_of", lambda opened, volume: None)
    assert "over the picture of" in sequence(*script, seed=SEEDS[0])


@pytest.mark.slow
def test_paint_beside_the_image(sequence, monkeypatch):
    script = (KEYS["next"], move_paint)
    assert not sequence(*script)
    monkeypatch.setattr(Placement, "apply", lambda self, layer: False)
    assert "voxels beside the image" in sequence(*script)


@pytest.mark.slow
def test_a_patch_that_is_not_seen(sequence, monkeypatch):
    monkeypatch.setattr(Patches, "_show_only", lambda self, volume: None)
    assert "lies over the patch" in sequence(KEYS["next"], KEYS["next"])


@pytest.mark.slow
def test_names_that_mislead(sequence, monkeypatch):
    monkeypatch.setattr(OpenProject, "called", lambda self, what, volume: what)
    assert "is called" in sequence(KEYS["next"])


@pytest.mark.slow
def test_a_decision_that_is_lost(sequence, monkeypatch):
    record = Regions.record

    def forgets(self, region):
        return record(self, region.model_copy(update={"state": "suggested"}))

    done = (KEYS["next"], KEYS["done"])
    monkeypatch.setattr(Regions, "record", forgets)
    assert "is suggested, not accepted" in sequence(*done)


@pytest.mark.slow
def test_a_file_of_the_user_that_was_changed(sequence):
    assert "has changed" in sequence(write_on_disk)
