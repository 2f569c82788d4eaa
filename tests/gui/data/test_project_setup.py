"""Bad layers: one sentence each, and nothing on disk."""

import threading

import numpy as np
import pytest
from napari.layers import Image, Labels

from napari_emda._gui.data.guesses import class_in_name
from napari_emda._gui.data.project_setup import (
    Pick,
    check,
    free_name,
    proposed_folder,
    store,
)
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.errors import DataError
from napari_emda.project.project import Project

NM = {"scale": (50, 4.6, 4.6), "units": ("nm",) * 3}
SPACING = (50, 4.6, 4.6)
CLASSES = ("background", "mitochondria")


def picks(source=None, labels=None, target=None, **options):
    image = np.arange(5 * 8 * 6, dtype=np.uint8).reshape(5, 8, 6)
    mask = (image > 100).astype(np.uint8)
    return [
        Pick(
            Image(image if source is None else source, name="src", **options.get("place", NM)),
            "source",
            options.get("spacing", SPACING),
            Labels(mask if labels is None else labels, name="lab", **NM),
            sections_are_independent=options.get("independent", False),
        ),
        Pick(
            Image(image[:, ::-1] if target is None else target, name="tgt", **NM),
            "target",
            options.get("target_spacing", SPACING),
        ),
    ]


FLOAT = np.zeros((5, 8, 6), np.float32)
HOLE = FLOAT.copy()
HOLE[3, 2, 1] = np.nan
BAD = {
    "another shape": (
        # Of an image whose place is not known: elsewhere, labels of a part are fine.
        picks(labels=np.ones((5, 8, 5), np.uint8), place={}),
        CLASSES,
        "'src' are 5 x 8 x 5 .* same shape",
    ),
    "not a number": (picks(source=HOLE), CLASSES, "NaN or infinite values in section 3"),
    "infinite target": (
        picks(target=np.full((5, 8, 6), np.inf, np.float32)),
        CLASSES,
        "'tgt' has NaN or infinite",
    ),
    "empty labels": (picks(labels=np.zeros((5, 8, 6), np.uint8)), CLASSES, "are empty: label some"),
    "one class": (picks(labels=np.ones((5, 8, 6), np.uint8)), CLASSES, "are all 1: label some"),
    "no voxel size": (picks(spacing=None), CLASSES, "voxel size of 'src' is missing: type three"),
    "no pixel size": (
        picks(spacing=None, independent=True),
        CLASSES,
        "voxel size of 'src' is missing: type two",
    ),
    "voxel size zero": (
        picks(target_spacing=(50, 0, 4)),
        CLASSES,
        "voxel size of 'tgt' is 50 0 4: give three",
    ),
    "swapped": (
        picks(source=np.zeros((4, 9, 9), np.uint8)),
        CLASSES,
        "fit the target 'tgt', not the source 'src'",
    ),
    "rotated": (picks(place={**NM, "rotate": (0, 0, 10)}), CLASSES, "'src' is rotated or sheared"),
    "one class name": (picks(), ("background",), "at least two different names"),
    "nameless class": (picks(), ("background", ""), "at least two different names"),
    "too few classes": (
        picks(labels=np.arange(240).reshape(5, 8, 6)),
        ("a", "b", "c"),
        "240 different values, but there are 3",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_sentence(name):
    chosen, classes, words = BAD[name]
    with pytest.raises(DataError, match=words) as error:
        check(chosen, classes, threading.Event())
    assert str(error.value).endswith(".")


def test_the_same_image_twice():
    (source, _) = picks()
    with pytest.raises(DataError, match="both source and target"):
        check([source, Pick(source.image, "target", SPACING)], CLASSES, threading.Event())


def test_good_layers_become_volumes(tmp_path):
    chosen = picks()
    check(chosen, CLASSES, threading.Event())
    with Project.create(tmp_path / "project", CLASSES) as project:
        for entry in store(project, chosen, threading.Event()):
            project.volumes.add_entry(entry)
        source, target = project.volumes.open_all()
        assert (source.name, target.name) == ("src", "tgt")
        assert source.grid == VoxelGrid(SPACING)
        assert np.array_equal(np.asarray(source.image[:]), chosen[0].image.data)
        assert np.array_equal(np.asarray(source.labels[:]), chosen[0].labels.data)
        assert target.labels is None


def test_reading_ends_when_the_viewer_is_closed(tmp_path):
    stop = threading.Event()
    stop.set()
    with pytest.raises(DataError, match="stopped"):
        check(picks(), CLASSES, stop)
    with Project.create(tmp_path / "project", CLASSES) as project:
        with pytest.raises(DataError, match="stopped"):
            store(project, picks(), stop)
        assert not (project.folder / "volumes").exists()


def test_names_and_folders_are_proposed(tmp_path, monkeypatch):
    assert free_name("a", ["a", "a 2"]) == "a 3"
    assert class_in_name("phantom source mitochondria", "phantom source") == "mitochondria"
    assert class_in_name("VNC_labels", "VNC") == "foreground"
    monkeypatch.setattr("pathlib.Path.home", lambda: tmp_path)
    first = proposed_folder([None])
    assert first == tmp_path / "napari-emda" / "emda-project-1"
    first.mkdir(parents=True)
    assert proposed_folder([None]).name == "emda-project-2"
