"""The command line as scripts see it: exit codes, one line for invalid input, JSON at the end."""

from __future__ import annotations

import json
import os
import shutil
from importlib.metadata import version

import numpy as np
import pytest
import tifffile
import zarr
from skimage.measure import label

import napari_emda
from napari_emda import cli
from napari_emda.cli.console import print_table
from napari_emda.data.box import Box
from napari_emda.project.project import Project
from napari_emda.project.stored_prediction import StoredPrediction
from tests.cli.calling import answer, call, image, listing

SMALL = [
    "--profile",
    "test",
    "--set",
    "patch=32",
    "--set",
    "batch=2",
    "--device",
    "cpu",
    "--set",
    "precision=32",
]
RUN = "001-histogram"


# -- the whole workflow ----------------------------------------------------------------------------


def test_the_whole_workflow(phantom_files, tmp_path):
    project = tmp_path / "project"
    truth = phantom_files["target", "labels"]
    created = answer(
        "new",
        project,
        "--source",
        phantom_files["source", "image"],
        phantom_files["source", "labels"],
        "--target",
        phantom_files["target", "image"],
        "--classes",
        "background",
        "mitochondria",
    )
    assert created["classes"] == ["background", "mitochondria"]
    assert [(v["domain"], v["spacing"]) for v in created["volumes"]] == [
        ("source", [50, 8, 8]),
        ("target", [50, 8, 8]),
    ]

    adapted = answer("train", project, "--method", "histogram", "--steps", 4, "--seed", 3, *SMALL)
    assert adapted.items() >= {"run": RUN, "step": 4, "selected_step": 4}.items()
    assert adapted["losses"]["segmentation"] > 0

    suggested = answer("suggest", project, "--strategy", "entropy", "--count", 3, "--patch", 32)
    assert len(suggested["regions"]) == 3
    assert all(set(region) >= {"volume", "box", "score"} for region in suggested["regions"])

    agreement = answer("annotate", project, "--from", truth, "--regions", "suggested")
    annotated = agreement["annotated"]
    assert [(r["number"], r["audit"], r["run"], r["patches"]) for r in agreement["rounds"]] == [
        (1, False, RUN, 3)
    ]
    assert all(
        0 <= agreement["rounds"][0][k]["low"] <= agreement["rounds"][0][k]["high"] <= 1
        for k in ("iou", "dice")
    )
    assert [region["box"] for region in annotated] == [
        region["box"] for region in suggested["regions"]
    ]

    retrained = answer("train", project, "--method", "finetune", "--steps", 2)
    assert retrained["run"] == "002-finetune"
    assert "target_segmentation" in retrained["losses"]
    assert job_of(project, "002-finetune")["start_from"] == RUN

    predicted = answer("predict", project, "--out", tmp_path / "p.tif")
    assert (predicted["run"], predicted["volume"]) == ("002-finetune", "target_image")
    probabilities = tifffile.imread(tmp_path / "p.tif")

    box = "0:4,48:96,:"
    score = answer("score", project, "--against", truth, "--box", box)
    assert set(score) >= {"iou", "dice", "average_precision", "voxels"}
    assert score["voxels"] == 4 * 48 * 96
    assert "objects" not in score["classes"]["mitochondria"]

    counted = answer("score", project, "--against", truth, "--objects", "--minimum-size", 5)[
        "classes"
    ]["mitochondria"]
    true = np.bincount(label(tifffile.imread(truth) > 0, connectivity=1).ravel())[1:]
    assert counted["objects"]["truth_objects"] == (true >= 5).sum()

    answer("export", project, "--what", "mask", "--to", tmp_path / "mask.tif")
    mask = tifffile.imread(tmp_path / "mask.tif")
    assert mask.shape == (4, 96, 96)
    np.testing.assert_array_equal(mask > 0, probabilities.reshape(mask.shape) >= 128)
    predicted_half = (mask > 0)[:, 48:]
    true_half = tifffile.imread(truth)[:, 48:] > 0
    assert score["iou"] == pytest.approx(
        (predicted_half & true_half).sum() / (predicted_half | true_half).sum()
    )


# -- one trained project for the rest --------------------------------------------------------------


@pytest.fixture(scope="module")
def trained_once(phantom_files, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli") / "project"
    with Project.create(folder, ("background", "mitochondria")) as project:
        files = phantom_files["source", "image"], phantom_files["source", "labels"]
        project.volumes.add(files[0], "source", labels=files[1], name="source")
        project.volumes.add(phantom_files["target", "image"], "target", name="target")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("napari_emda.inference.device.configure_process", lambda *_, **__: None)
        answer("train", folder, "--method", "histogram", "--steps", 2, *SMALL)
    return folder


@pytest.fixture
def trained(trained_once, tmp_path):
    """A copy of a project with one run."""
    return shutil.copytree(trained_once, tmp_path / "project")


def test_a_project_without_a_target_exports_its_model_all_the_same(phantom_files, tmp_path):
    folder = tmp_path / "project"
    files = phantom_files["source", "image"], phantom_files["source", "labels"]
    with Project.create(folder, ("background", "mitochondria")) as project:
        project.volumes.add(files[0], "source", labels=files[1], name="source")
    answer("train", folder, "--method", "source_only", "--steps", 1, *SMALL)
    model = tmp_path / "model.safetensors"
    answer("export", folder, "--what", "model_file", "--to", model)
    assert model.exists()
    status, _, error = call("export", folder, "--what", "mask", "--to", tmp_path / "mask.tif")
    assert status == 2
    assert "no target volume" in error


def job_of(project, run=RUN):
    return json.loads((project / "runs" / run / "job.json").read_text())


def test_a_profile_can_be_set_like_any_setting(trained):
    answer(
        "train",
        trained,
        "--set",
        "profile=test",
        "--steps",
        1,
        "--set",
        "patch=32",
        "--device",
        "cpu",
    )
    job = job_of(trained, "002-auto")
    settings = job["settings"]
    assert (settings["profile"], settings["patch"], settings["steps"]) == ("test", 32, 1)
    assert job["network_settings"]["base_channels"] == 8


def test_a_run_starts_from_another_with_its_settings_unless_others_are_given(trained):
    answer("train", trained, "--from", RUN, "--steps", 1, "--set", "learning_rate=0.0001")
    before = job_of(trained)["settings"]
    after = job_of(trained, "002-auto")["settings"]
    assert after == {**before, "steps": 1, "learning_rate": 0.0001}
    assert job_of(trained, "002-auto")["start_from"] == RUN


def test_neighbouring_sections_go_all_the_way(trained):
    """Train, predict, suggest, export; a training from that run sees as many, whatever profile."""
    answer("train", trained, "--method", "auto", "--steps", 1, "--set", "context=1", *SMALL)
    run = job_of(trained, "002-auto")
    assert run["settings"]["context"] == 1
    assert answer("predict", trained, "--run", "002-auto")["volume"] == "target"
    for strategy in ("entropy", "bald", "core_set"):
        suggested = answer("suggest", trained, "--strategy", strategy, "--count", 1, "--patch", 32)
        assert len(suggested["regions"]) == 1
    answer("train", trained, "--from", "002-auto", "--steps", 1, *SMALL)
    assert job_of(trained, "003-auto")["settings"]["context"] == 1


def test_keeping_by_a_loss_is_not_passed_on_to_a_method_without_that_loss(trained):
    answer("train", trained, "--method", "uda", "--keep", "supervised", "--steps", 1, *SMALL)
    for method, kept in (("uda", "supervised"), ("source_only", "average")):
        run = answer("train", trained, "--method", method, "--from", "002-uda", "--steps", 1)["run"]
        assert job_of(trained, run)["settings"]["keep"] == kept
    status, _, err = call(
        "train", trained, "--method", "source_only", "--from", "002-uda", "--keep", "total"
    )
    assert (status, "source_only has none" in err) == (2, True)


def test_a_new_round_starts_from_scratch_only_when_asked(trained, phantom_files):
    answer("annotate", trained, "--from", phantom_files["target", "labels"], "--regions", "all")
    answer("train", trained, "--method", "finetune", "--from", "none", "--steps", 1, *SMALL)
    assert job_of(trained, "002-finetune")["start_from"] is None
    _, _, err = call(
        "train",
        trained,
        "--method",
        "finetune",
        "--steps",
        1,
        "--set",
        "patch=32",
        "--device",
        "cpu",
    )
    assert "Starting from 002-finetune; to start from scratch, use --from none.\n" in err
    assert job_of(trained, "003-finetune")["start_from"] == "002-finetune"


def test_a_method_gets_its_own_settings(trained):
    answer(
        "train", trained, "--method", "ynet", "--set", "reconstruction=0.5", "--steps", 1, *SMALL
    )
    assert job_of(trained, "002-ynet")["method_settings"]["reconstruction"] == 0.5


def test_a_strategy_can_be_set_like_any_setting(trained):
    result = answer(
        "suggest", trained, "--patch", 32, "--set", "strategy=random", "--set", "seed=5"
    )
    assert result["strategy"] == "random"
    assert {region.strategy for region in Project.open(trained).regions.all()} == {"random"}


def test_an_audit_is_drawn_at_random_and_measures_the_model(trained, phantom_files):
    drawn = answer("suggest", trained, "--audit", "--count", "3", "--patch", "32")
    assert (drawn["strategy"], drawn["run"], len(drawn["regions"])) == ("audit", RUN, 3)
    agreement = answer("annotate", trained, "--from", phantom_files["target", "labels"])
    assert [(r["audit"], r["patches"]) for r in agreement["rounds"]] == [(True, 3)]


def test_a_whole_label_image_is_taken_as_annotations(trained, phantom_files, phantoms):
    answer(
        "annotate",
        trained,
        "--from",
        phantom_files["target", "labels"],
        "--regions",
        "all",
        "--zero",
        "unannotated",
    )
    stored = np.asarray(Project.open(trained).annotations.open("target")[:])
    np.testing.assert_array_equal(stored, np.where(phantoms["target"][1] > 0, 2, 0))


def test_labelled_sections_are_taken_whole_with_zero_sections(trained, phantoms, tmp_path):
    few = phantoms["target"][1].copy()
    few[2:] = 0
    tifffile.imwrite(tmp_path / "few.tif", few, photometric="minisblack")
    answer(
        "annotate",
        trained,
        "--from",
        tmp_path / "few.tif",
        "--regions",
        "all",
        "--zero",
        "sections",
    )
    stored = np.asarray(Project.open(trained).annotations.open("target")[:])
    np.testing.assert_array_equal(stored[:2], np.where(few[:2] > 0, 2, 1))
    assert not stored[2:].any()


@pytest.mark.parametrize("method", ["finetune", "histogram", "auto"])
def test_no_training_begins_with_a_number_that_is_no_class(method, trained, phantom_files):
    with Project.open(trained) as project:
        project.annotations.require("target")[2, 10:20, 30:50] = 3
    before = sorted((trained / "runs").iterdir())
    train = ("train", trained, *SMALL, "--steps", 1, "--method", method, "--from", "none")
    code, _, err = call(*train)
    assert code == 2
    assert "'target' hold the number 3 in 200 voxels of section 2 (y 10 to 19, x 30 to 49)" in err
    assert "annotate the volume again from a label image" in err
    assert sorted((trained / "runs").iterdir()) == before
    labels = phantom_files["target", "labels"]
    assert call("annotate", trained, "--from", labels, "--regions", "all")[0] == 0
    assert call(*train)[0] == 0


def test_labels_of_many_values_are_taken_for_objects_with_a_notice(trained, phantoms, tmp_path):
    objects = label(phantoms["target"][1]).astype(np.uint16)
    assert objects.max() > 2
    tifffile.imwrite(tmp_path / "objects.tif", objects, photometric="minisblack")
    status, _, err = call(
        "annotate", trained, "--from", tmp_path / "objects.tif", "--regions", "all"
    )
    assert status == 0
    assert "different values, and all above 0 count as 'mitochondria'" in err


def test_labels_of_other_conventions_give_the_same_score(
    trained, phantom_files, phantoms, tmp_path
):
    labels = phantom_files["target", "labels"]
    expected = answer("score", trained, "--objects", "--against", labels)
    path = tmp_path / "from_one.tif"
    tifffile.imwrite(path, phantoms["target"][1] + 1, photometric="minisblack")
    score = ["score", trained, "--objects", "--against", path]
    assert call(*score)[0] == 2
    assert answer(*score, "--background", 1) == expected


def test_a_part_is_predicted_scored_and_exported_and_the_rest_later(
    trained, phantom_files, tmp_path
):
    """Sections of 96 x 96 pixels are one block each."""
    predicted = answer("predict", trained, "--box", "1:2,20:40,:", "--out", tmp_path / "p.tif")
    assert predicted["predicted_share"] == 0.25
    run = Project.open(trained).run(RUN)
    stored = StoredPrediction(run, "target")
    assert np.flatnonzero(stored.predicted.cells.all((1, 2))).tolist() == [1]
    section = stored.probabilities[0, 1]
    assert tifffile.imread(tmp_path / "p.tif").tolist() == section[20:40].tolist()
    labels = phantom_files["target", "labels"]
    part = answer("score", trained, "--against", labels, "--box", "1:2,:,:")
    assert stored.predicted.share == 0.25
    path = tmp_path / "mask.zarr"
    call("export", trained, "--what", "mask", "--to", path, "--box", "1:3,30:70,16:96")
    assert stored.predicted.share == 0.5
    exported = zarr.open_group(path)
    np.testing.assert_array_equal(
        exported["0"][:], stored.probabilities[0, 1:3, 30:70, 16:96] >= 128
    )
    transforms = exported.attrs["ome"]["multiscales"][0]["datasets"][0]["coordinateTransformations"]
    (translation,) = [entry["translation"] for entry in transforms if "translation" in entry]
    assert translation[-3:] == [50.0, 240.0, 128.0]
    _, _, err = call("export", trained, "--what", "table", "--to", tmp_path / "t.csv")
    assert "50 % of 'target' is predicted so far; the rest is predicted now." in err
    assert stored.complete({})
    np.testing.assert_array_equal(stored.probabilities[0, 1], section)
    assert answer("score", trained, "--against", labels, "--box", "1:2,:,:") == part
    assert answer("predict", trained)["predicted_share"] == 1


def test_only_blocks_that_a_mask_marks_are_predicted(trained, phantoms, tmp_path):
    mask = np.zeros((2, 32, 32), np.uint8)
    mask[1, 5, 7] = 3
    path = image(tmp_path / "coarse.tif", mask)
    assert answer("predict", trained, "--mask", path)["predicted_share"] == 0.5
    stored = StoredPrediction(Project.open(trained).run(RUN), "target")
    assert np.flatnonzero(stored.predicted.cells.all((1, 2))).tolist() == [2, 3]
    status, _, err = call("predict", trained, "--mask", path, "--box", "0:1,:,:")
    assert status == 2
    assert "coarse.tif marks no voxel in the box 0:1,:,:: choose" in err


@pytest.mark.parametrize(
    ("options", "sections"),
    [(("--strategy", "random", "--run", RUN), 1), (("--audit",), 1), (("--set", "box=1:3,:,:"), 2)],
)
def test_only_blocks_of_candidates_or_of_drawn_patches_are_predicted(trained, options, sections):
    suggested = answer("suggest", trained, "--count", 1, "--patch", 32, *options)["regions"]
    stored = StoredPrediction(Project.open(trained).run(RUN), "target")
    assert stored.predicted.cells.all((1, 2)).sum() == sections
    (box,) = [Box.parse(region["box"], (4, 96, 96)) for region in suggested]
    assert stored.complete({}, uncertainty=True, box=box)


def test_object_ids_beyond_32_bits_are_refused_before_anything_is_predicted(
    trained, phantoms, tmp_path
):
    numbered = label(phantoms["target"][1]).astype(np.uint64)
    path = tmp_path / "large.zarr"
    zarr.save_array(path, np.where(numbered == 1, np.uint64(2**32), numbered))
    status, _, err = call("score", trained, "--against", path, "--objects")
    assert status == 2
    assert "have the object id 4294967296: renumber the objects" in err
    assert not (trained / "runs" / RUN / "probabilities.zarr").exists()
    # Voxel by voxel, they are a mask like any other.
    assert "iou" in answer("score", trained, "--against", path)


def test_an_image_in_place_of_its_labels_is_refused(trained, phantom_files, refused):
    image_file = phantom_files["target", "image"]
    command = ["annotate", trained, "--from", image_file, "--regions", "all"]
    refused(command, "no voxel is 0", folder=trained)


def test_suggestions_go_to_other_places_once_annotated(trained, phantom_files):
    first = answer("suggest", trained, "--patch", 32)["regions"]
    answer("annotate", trained, "--from", phantom_files["target", "labels"])
    second = answer("suggest", trained, "--patch", 32)["regions"]
    assert not {r["box"] for r in first} & {r["box"] for r in second}


def test_objects_are_found_and_the_project_stays_whole(trained):
    found = answer("objects", trained, "--minimum-size", 3, "--separate", 0.7)
    (numbers,) = found["classes"].values()
    assert set(numbers) == {"objects", "size", "total", "median"}
    assert (trained / "runs" / RUN / "objects" / "target" / "1.csv").is_file()
    code, printed, _ = call("objects", trained)
    assert code == 0
    assert "mitochondria" in printed
    assert answer("check", trained)["damages"] == []
    status, _, err = call("objects", trained, "--separate", 2)
    assert status == 2
    assert "separate = 2.0 is not allowed" in err


def test_suspicious_objects_are_listed_and_edited(trained):
    status, _, err = call("objects", trained, "--queue")
    assert status == 2
    assert "No objects were found in 'target'" in err
    # A model of two steps finds all or nothing at a threshold that does not suit it.
    answer("predict", trained)
    stored = zarr.open_array(trained / "runs" / RUN / "probabilities.zarr" / "target", mode="r+")
    stored[...] = 0
    stored[0, 1:3, 10:20, 10:20] = 200
    stored[0, 1:3, 40:60, 30:40] = 220
    answer("objects", trained)
    queue = answer("objects", trained, "--queue", "--most", 1)["queue"]
    assert [set(row) for row in queue] == [{"id", "score", "twin", "reason"}]
    before = listing(trained)
    for edit, problem in [
        ("burn 1", "is no edit of objects"),
        ("merge 1", "is no edit of objects"),
        ("split 1 1,2 3,4,5", "is no edit of objects"),
        ("delete 77", "There is no object 77"),
        ("split 2 1,41,31 0,0,0", "in the background"),
    ]:
        status, _, err = call("objects", trained, "--edit", edit)
        assert (status, err.count("\n")) == (2, 1)
        assert problem in err
    assert {**listing(trained), ".lock": 0} == {**before, ".lock": 0}
    edits = ["--edit", "split 2 1,42,35 1,58,35", "--edit", "good 1"]
    done = answer("objects", trained, *edits)
    assert [(edit["kind"], edit["state"]) for edit in done["edits"]] == [
        ("split", "done"),
        ("good", "done"),
    ]
    status, printed, _ = call("objects", trained, "--undo", "--queue")
    assert "good of object 1: undone." in printed
    assert "The objects contain 1 edit." in printed
    assert answer("objects", trained, "--redo")["edits"][0]["state"] == "repeated"
    numbers = answer("objects", trained)["classes"]["mitochondria"]
    assert numbers["objects"] == 3
    assert answer("check", trained)["damages"] == []


@pytest.mark.filterwarnings(
    "ignore:.*torch.jit:DeprecationWarning", "ignore:unclosed file:ResourceWarning"
)
@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # as above, once collected
@pytest.mark.parametrize(
    ("what", "name"),
    [("objects", "o.tif"), ("probabilities", "p.zarr"), ("table", "t.csv"), ("model", "m.zip")],
)
def test_everything_can_be_exported(what, name, trained, tmp_path):
    if what == "model":
        pytest.importorskip("bioimageio.spec")
    assert answer("export", trained, "--what", what, "--to", tmp_path / name) == {
        "path": str(tmp_path / name)
    }
    assert (tmp_path / name).exists()


@pytest.mark.parametrize("command", ["methods", "strategies"])
def test_names_are_listed_and_described(command):
    names = [entry["name"] for entry in answer(command)[command]]
    status, out, _ = call(command)
    assert status == 0
    assert all(name in out for name in names)
    for name in names:
        status, out, _ = call(command, name)
        assert status == 0
        for key in answer(command, name)[command][0]["schema"].get("properties", {}):
            assert key in out


def test_tables_are_printed_and_progress_goes_to_standard_error(trained, phantom_files):
    status, out, err = call("score", trained, "--against", phantom_files["target", "labels"])
    assert status == 0
    assert "IoU" in out
    assert "mitochondria" in out or "foreground" in out
    assert "score 001-histogram on" in err


def test_no_path_in_a_table_is_cut(capsys):
    path = "/very/long/" + "folder/" * 20 + "model.safetensors"
    print_table("Models", ["name", "file"], [["mitochondria", path]])
    cells = [line.split("│")[2].strip() for line in capsys.readouterr().out.splitlines()[4:-1]]
    assert "".join(cells) == path


def test_without_a_command_the_help_is_printed():
    status, out, _ = call()
    assert status == 0
    assert "train" in out
    assert "suggest" in out
    # Typer cuts what does not fit into a line.
    assert [line for line in out.splitlines()[1:] if line.endswith("...")] == []


def test_an_unknown_command_is_refused_with_the_closest_one():
    status, _, err = call("trian", "p")
    assert (status, err) == (
        2,
        "No such command 'trian'. Did you mean 'train'? See 'napari-emda --help'.\n",
    )


def test_a_list_of_classes_repeats_the_option():
    assert cli.repeat_option(["new", "P", "--classes", "a", "b", "c", "--json"], "--classes") == [
        "new",
        "P",
        "--classes",
        "a",
        "--classes",
        "b",
        "--classes",
        "c",
        "--json",
    ]


def test_three_classes_are_three_names(phantom_files, tmp_path):
    files = phantom_files["source", "image"], phantom_files["source", "labels"]
    created = answer(
        "new", tmp_path / "p", "--source", *files, "--classes", "a", "b", "c", "--spacing", 50, 8, 8
    )
    assert created["classes"] == ["a", "b", "c"]


# -- invalid input: making a project ---------------------------------------------------------------

GREY = np.random.default_rng(0).integers(1, 255, (3, 40, 48)).astype(np.uint8)
IDS = (GREY > 128).astype(np.uint8)


def changed(array, index, value, dtype=np.float32):
    copy = array.astype(dtype)
    copy[index] = value
    return copy


NEW = {
    "labels of another shape": (GREY, IDS[:, :30], ["40 x 48", "30 x 48", "same shape"]),
    "labels of fewer sections": (GREY, IDS[:2], ["same shape"]),
    # Equal channels would be a grey image.
    "colour": (np.stack([GREY, GREY, 255 - GREY], -1), IDS, ["colour"]),
    "not a number": (
        changed(GREY, (1, 2, 3), np.nan),
        IDS,
        ["NaN or infinite values in section 1", "replace"],
    ),
    "infinite": (changed(GREY, (2, 2, 3), np.inf), IDS, ["NaN or infinite values in section 2"]),
    "float labels": (GREY, IDS + np.float32(0.5), ["decimal numbers", "labels are whole"]),
    "empty labels": (GREY, IDS * 0, ["are empty", "label some"]),
    "labels all one class": (GREY, IDS * 0 + 1, ["are all 1", "background"]),
}


@pytest.mark.parametrize("case", NEW)
def test_a_bad_source_is_refused(case, refused, tmp_path):
    grey, ids, parts = NEW[case]
    if grey.ndim == 4:
        tifffile.imwrite(tmp_path / "i.tif", grey, photometric="rgb")
    else:
        image(tmp_path / "i.tif", grey)
    image(tmp_path / "l.tif", ids)
    spacing = ["--spacing", 50, 8, 8]
    refused(
        ["new", tmp_path / "p", "--source", tmp_path / "i.tif", tmp_path / "l.tif", *spacing],
        *parts,
    )


@pytest.fixture
def source_files(tmp_path):
    tifffile.imwrite(tmp_path / "bare.tif", GREY, photometric="minisblack")
    return [image(tmp_path / "i.tif", GREY), image(tmp_path / "l.tif", IDS)]


@pytest.mark.parametrize("spacing", [(0, 4, 4), (-1, 4, 4), (4, 4, "nan"), (4, "inf", 4)])
@pytest.mark.parametrize("option", ["--spacing", "--target-spacing"])
def test_a_voxel_size_must_be_above_zero(spacing, option, refused, source_files, tmp_path):
    arguments = [
        "new",
        tmp_path / "p",
        "--source",
        *source_files,
        "--target",
        source_files[0],
        option,
        *spacing,
    ]
    refused(arguments, "above 0", "nm")


@pytest.mark.parametrize("spacing", [(1, 2), ("a", "b", "c")])
def test_a_voxel_size_is_three_numbers(spacing, refused, source_files, tmp_path):
    status, _, err = call("new", tmp_path / "p", "--source", *source_files, "--spacing", *spacing)
    assert (status, err.count("\n")) == (2, 1)
    assert err.endswith(". See 'napari-emda new --help'.\n")
    assert "--spacing Z Y X" in call("new", "--help")[1]
    assert not (tmp_path / "p").exists()


def test_a_missing_voxel_size_is_asked_for(refused, source_files, tmp_path):
    refused(
        ["new", tmp_path / "p", "--source", tmp_path / "bare.tif", source_files[1]],
        "voxel size",
        "z y x in nm",
    )
    assert (
        call(
            "new",
            tmp_path / "p",
            "--source",
            tmp_path / "bare.tif",
            source_files[1],
            "--spacing",
            50,
            4,
            4,
        )[0]
        == 0
    )


def test_source_and_target_swapped_are_noticed(refused, source_files, tmp_path):
    target = image(tmp_path / "t.tif", GREY[:, :32])
    arguments = [
        "new",
        tmp_path / "p",
        "--source",
        target,
        source_files[1],
        "--target",
        source_files[0],
    ]
    refused(arguments, "swap source and target")


def test_a_truncated_file_is_refused(refused, source_files, tmp_path):
    whole = source_files[0].read_bytes()
    for share in (0.9, 0.5, 0.01):
        (tmp_path / "cut.tif").write_bytes(whole[: int(share * len(whole))])
        refused(
            ["new", tmp_path / "p", "--source", tmp_path / "cut.tif", source_files[1]], "cut.tif"
        )


def test_a_missing_file_is_named(refused, source_files, tmp_path):
    refused(
        ["new", tmp_path / "p", "--source", tmp_path / "gone.tif", source_files[1]],
        "gone.tif does not exist",
    )


def test_a_folder_in_use_is_left_alone(refused, source_files, tmp_path):
    refused(["new", tmp_path, "--source", *source_files], "exists and is not empty")


@pytest.mark.parametrize("classes", [["one"], ["a", "a"]])
def test_classes_need_two_names(classes, refused, source_files, tmp_path):
    refused(
        ["new", tmp_path / "p", "--source", *source_files, "--classes", *classes],
        "at least two classes",
    )


# -- invalid input: using a project ----------------------------------------------------------------

TRAIN = {
    "a target smaller than a patch": (
        ["--profile", "fast"],
        ["96 x 96 pixels", "128-pixel patch", "96 or less"],
    ),
    "unknown method": (
        ["--method", "histgram"],
        ["no method 'histgram'", "Did you mean 'histogram'?"],
    ),
    "unknown setting": (["--set", "stepz=5"], ["no setting 'stepz'", "Did you mean 'steps'?"]),
    "another method's setting": (["--set", "reconstruction=0.5"], ["no setting 'reconstruction'"]),
    "not an assignment": (["--set", "steps"], ["KEY=VALUE"]),
    "steps out of range": (["--set", "steps=0"], ["steps = 0", "greater than or equal to 1"]),
    "rate out of range": (
        ["--set", "learning_rate=1"],
        ["learning_rate", "less than or equal to 0.1"],
    ),
    "patch between sizes": (["--set", "patch=33"], ["patch = 33", "multiple of 32"]),
    "not a number": (["--set", "steps=many"], ["steps = 'many'", "integer"]),
    "own setting out of range": (
        ["--set", "matched=2"],
        ["matched = 2", "less than or equal to 1"],
    ),
    "unknown profile": (["--profile", "fats"], ["no profile 'fats'", "'fast'"]),
    "unknown profile by --set": (["--set", "profile=7"], ["no profile '7'"]),
    "unknown device": (["--device", "gpu"], ["device = 'gpu'", "'cuda'"]),
    "device that is not there": (
        ["--device", "mps", *SMALL[:-4]],
        ["no device 'mps' on this machine"],
    ),
    "unknown run to start from": (
        ["--from", "001-histogrm"],
        ["no run '001-histogrm'", "Did you mean"],
    ),
    "another network to start from": (
        ["--from", RUN, "--set", "base_channels=16"],
        ["another network (base_channels=8, here base_channels=16)"],
    ),
    "another number of sections": (
        ["--from", RUN, "--set", "context=1", *SMALL],
        ["another network (context=0, here context=1)"],
    ),
    "too many sections": (
        ["--set", "context=6", *SMALL],
        ["context = 6", "less than or equal to 5"],
    ),
    "a network of its own": (
        ["--method", "attention_ynet", "--from", RUN],
        ["(attention=False, here attention=True)"],
    ),
    "unknown run to resume": (["--resume", "009-x"], ["no run '009-x'"]),
    "nothing annotated": (
        ["--method", "finetune", *SMALL],
        ["there are none", "annotate some first"],
    ),
    "a box outside": (
        ["--set", "source_box=0:9,:,:", *SMALL],
        ["does not lie in the volume", "0:4,0:96,0:96"],
    ),
    "a box without foreground": (
        ["--set", "source_box=0:1,0:32,0:32", *SMALL],
        ["no foreground", "enlarge the box"],
    ),
}


@pytest.mark.parametrize("case", TRAIN)
def test_an_impossible_training_is_refused(case, refused, trained, phantoms):
    arguments, parts = TRAIN[case]
    if case == "a box without foreground":
        empty = np.argwhere(
            [
                phantoms["source"][1][z, y : y + 32, x : x + 32].sum() == 0
                for z in range(4)
                for y in (0, 32, 64)
                for x in (0, 32, 64)
            ]
        ).ravel()
        z, y, x = np.unravel_index(empty[0], (4, 3, 3))
        arguments = [
            "--set",
            f"source_box={z}:{z + 1},{y * 32}:{y * 32 + 32},{x * 32}:{x * 32 + 32}",
            *SMALL,
        ]
    refused(["train", trained, *arguments], *parts)


OTHERS = {
    "suggest: unknown strategy": (
        ["suggest", "--strategy", "entropi"],
        ["no strategy 'entropi'", "'entropy'"],
    ),
    "suggest: no patches": (
        ["suggest", "--count", "0"],
        ["count = 0", "greater than or equal to 1"],
    ),
    "suggest: patch too large": (
        ["suggest", "--patch", "128"],
        ["96 x 96 pixels", "patch size 96 or less"],
    ),
    "suggest: unknown setting": (["suggest", "--set", "sead=1"], ["no setting 'sead'", "'seed'"]),
    "suggest: a box outside": (
        ["suggest", "--patch", "32", "--set", "box=0:9,:,:"],
        ["does not lie in the volume"],
    ),
    "suggest: unknown volume": (
        ["suggest", "--patch", "32", "--volume", "tagret"],
        ["no volume 'tagret'", "'target'"],
    ),
    "annotate: missing file": (["annotate", "--from", "gone.tif"], ["gone.tif does not exist"]),
    "annotate: another shape": (["annotate", "--from", "{small}"], ["same shape"]),
    "annotate: unknown kind": (
        ["annotate", "--from", "{labels}", "--regions", "none"],
        ["'none'", "suggested"],
    ),
    "score: no box": (
        ["score", "--against", "{labels}", "--box", "1:2"],
        ["not a box", "z0:z1,y0:y1,x0:x1"],
    ),
    "score: a box outside": (
        ["score", "--against", "{labels}", "--box", "0:5,:,:"],
        ["inside 0:4,0:96,0:96"],
    ),
    "score: another shape": (["score", "--against", "{small}"], ["same shape"]),
    "score: grey values": (["score", "--against", "{float}"], ["decimal numbers", "whole numbers"]),
    "score: unknown run": (
        ["score", "--against", "{labels}", "--run", "001-histogran"],
        ["Did you mean"],
    ),
    "predict: unknown volume": (["predict", "--volume", "tagret"], ["no volume 'tagret'"]),
    "predict: unknown run": (["predict", "--run", "x"], ["no run 'x'"]),
    "predict: unknown setting": (
        ["predict", "--set", "flip=true"],
        ["no setting 'flip'", "'flips'"],
    ),
    "predict: a box outside": (["predict", "--box", "0:5,:,:"], ["inside 0:4,0:96,0:96"]),
    "predict: an empty box": (["predict", "--box", "2:2,:,:"], ["holds no voxel"]),
    "predict: a reversed box": (["predict", "--box", ":,50:40,:"], ["holds no voxel"]),
    "predict: no box": (["predict", "--box", "1:2"], ["write z0:z1,y0:y1,x0:x1"]),
    "predict: another shape": (["predict", "--mask", "{small}"], ["choose one of the image's"]),
    "predict: an empty mask": (["predict", "--mask", "{empty}"], ["empty.tif marks no voxel"]),
    "predict: no mask": (["predict", "--mask", "{float}"], ["decimal numbers"]),
    "predict: a mask and a file": (
        ["predict", "--mask", "{labels}", "--out", "p.tif"],
        ["a file or a mask"],
    ),
    "predict: out of range": (["predict", "--set", "memory=0"], ["memory = 0", "0.05"]),
    "predict: a strange file": (["predict", "--out", "p.docx"], [".tif"]),
    "export: unknown thing": (
        ["export", "--what", "masks", "--to", "m.tif"],
        ["no export 'masks'", "'mask'"],
    ),
    "export: a strange file": (["export", "--what", "mask", "--to", "m.docx"], [".tif"]),
    "export: there already": (["export", "--what", "mask", "--to", "{small}"], ["exists"]),
    "export: a table of a box": (
        ["export", "--what", "table", "--to", "t.csv", "--box", "0:1,:,:"],
        ["would cut objects"],
    ),
    "export: a box outside": (
        ["export", "--what", "mask", "--to", "m.tif", "--box", "0:5,:,:"],
        ["inside 0:4,0:96,0:96"],
    ),
    "export: a threshold": (
        ["export", "--what", "mask", "--to", "m.tif", "--threshold", "1.5"],
        ["threshold = 1.5"],
    ),
}


@pytest.mark.parametrize("case", OTHERS)
def test_an_impossible_command_is_refused(case, refused, trained, phantom_files, tmp_path):
    arguments, parts = OTHERS[case]
    files = {
        "labels": phantom_files["target", "labels"],
        "small": image(tmp_path / "small.tif", IDS),
        "empty": image(tmp_path / "empty.tif", np.zeros((4, 48, 96), np.uint8)),
        "float": image(
            tmp_path / "float.tif", np.random.default_rng(0).random((4, 96, 96)).astype(np.float32)
        ),
    }
    command, *rest = [argument.format(**files) for argument in arguments]
    refused([command, trained, *rest], *parts)


COMMANDS = {
    "train": ["train", "{}", *SMALL],
    "predict": ["predict", "{}"],
    "suggest": ["suggest", "{}", "--patch", "32"],
    "annotate": ["annotate", "{}", "--from", "{labels}"],
    "score": ["score", "{}", "--against", "{labels}"],
    "export": ["export", "{}", "--what", "mask", "--to", "m.tif"],
}


@pytest.fixture(params=COMMANDS)
def command(request, phantom_files):
    """A function that gives a command's arguments for a project."""
    labels = phantom_files["target", "labels"]
    return lambda project: [part.format(project, labels=labels) for part in COMMANDS[request.param]]


def test_a_folder_without_a_project_is_refused(command, refused, tmp_path):
    refused(command(tmp_path), "is not a project", "make one from your images")


def test_a_newer_project_is_refused(command, refused, trained):
    path = trained / "project.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 7}))
    refused(command(trained), "has format 7", "update napari-emda")


def test_a_deleted_source_file_is_named(command, refused, trained):
    path = trained / "project.json"
    path.write_text(path.read_text().replace("_image.tif", "_image_gone.tif"))
    refused(command(trained), "_image_gone.tif does not exist")


@pytest.mark.parametrize("name", ["suggest", "annotate"])
def test_a_project_open_elsewhere_is_refused(name, refused, trained, phantom_files):
    arguments = [
        part.format(trained, labels=phantom_files["target", "labels"]) for part in COMMANDS[name]
    ]
    with Project.open(trained, exclusive=True):
        refused(arguments, "is open elsewhere: close it there first")


@pytest.mark.parametrize("name", ["train", "predict"])
def test_a_read_only_project_is_refused(name, refused, trained, monkeypatch):
    """The system's answer is replaced, because root may write everywhere."""
    monkeypatch.setattr("os.access", lambda _, mode: mode != os.W_OK)
    refused([part.format(trained) for part in COMMANDS[name]], "is read-only", "copy it")


@pytest.mark.parametrize("name", ["predict", "suggest", "score", "export"])
def test_without_a_model_the_error_says_to_train_one(name, refused, trained, phantom_files):
    shutil.rmtree(trained / "runs")
    arguments = [
        part.format(trained, labels=phantom_files["target", "labels"]) for part in COMMANDS[name]
    ]
    refused(arguments, "train one first")


@pytest.mark.parametrize("name", ["predict", "suggest", "score", "export"])
def test_a_damaged_model_is_refused(name, refused, trained, phantom_files):
    for path in trained.rglob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:3000])
    arguments = [
        part.format(trained, labels=phantom_files["target", "labels"]) for part in COMMANDS[name]
    ]
    refused(arguments, "is not a model of napari-emda, or is damaged")


@pytest.mark.parametrize("arguments", ["trian", "train", "train p --stepz 3", "train p --steps x"])
def test_invalid_arguments_are_one_line(arguments):
    status, _, err = call(*arguments.split())
    assert (status, err.count("\n")) == (2, 1)


@pytest.mark.parametrize(("text", "part"), [(None, "cannot be read"), ("{}", "is not a job")])
def test_an_invalid_job_file_is_refused(text, part, refused, tmp_path):
    if text is not None:
        (tmp_path / "job.json").write_text(text)
    refused(["run", tmp_path / "job.json"], part)


def test_the_version_is_that_of_the_package():
    assert call("--version") == (0, f"napari-emda {napari_emda.__version__}\n", "")
    assert napari_emda.__version__ == version("napari-emda")
