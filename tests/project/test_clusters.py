"""Named clusters: the stored names, the class probabilities that follow, and errors."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import zarr
from scipy.stats import entropy

from napari_emda.data.box import Box
from napari_emda.data.coverage import Coverage
from napari_emda.data.probabilities import class_ids
from napari_emda.errors import JobError, SettingsError
from napari_emda.inference.predictor import foreground_bytes
from napari_emda.io.read import open_labels
from napari_emda.jobs.execute import execute
from napari_emda.project.clusters import NamedClusters, parse_names, renamed, shares
from napari_emda.project.job_files import ExportJob, ScoreJob
from napari_emda.project.project import Project
from tests.predictions import note_as_predicted

CLASSES = ("background", "mitochondria", "vesicles")
RUN = "001-iic"


@pytest.fixture(scope="module")
def stored():
    """Stored probabilities of five clusters; the background has probability 0 everywhere."""
    import torch

    clusters = np.random.default_rng(0).dirichlet(np.ones(5), (4, 20, 30))
    background = np.zeros((4, 1, 20, 30))
    probabilities = np.concatenate([background, np.moveaxis(clusters, -1, 1)], axis=1)
    return np.moveaxis(foreground_bytes(torch.as_tensor(probabilities)), 0, 1)


@pytest.fixture
def clustered(stored, tmp_path):
    """A project with a run that has found clusters in the volume ``v``."""
    with Project.create(tmp_path / "project", CLASSES) as project:
        image = np.random.default_rng(1).integers(0, 255, stored.shape[1:]).astype(np.uint8)
        project.volumes.add(
            project.volumes.store("v", image), "target", name="v", spacing=(50, 8, 8)
        )
        run = project.folder / "runs" / RUN
        run.mkdir(parents=True)
        (run / "checkpoint.safetensors").touch()
        zarr.open_group(run / "probabilities.zarr", mode="a")
        names = {"classes": ["none", *(f"cluster {k}" for k in range(1, 6))]}
        zarr.create_array(
            run / "probabilities.zarr" / "v", data=stored, chunks=(1, 1, 20, 30), attributes=names
        )
        note_as_predicted(run, "v", stored.shape[1:])
        yield project


# -- names ---------------------------------------------------------------------------------------


def test_names_are_read_from_assignments():
    assert parse_names(["mitochondria=3, 5", "a=b=1", "vesicles="]) == {
        "mitochondria": (3, 5),
        "a=b": (1,),
        "vesicles": (),
    }
    for wrong in ("mitochondria", "=3", "mitochondria=three"):
        with pytest.raises(SettingsError, match="is not CLASS=CLUSTERS: write for example"):
            parse_names([wrong])
    for ambiguous, words in (
        (["a=1", "a=2"], "'a' is given twice"),
        (["a=1,2", "b=3,2"], "Cluster 2 is given to 'a'"),
    ):
        with pytest.raises(SettingsError, match=words):
            parse_names(ambiguous)


def test_an_assigned_class_gets_exactly_these_clusters():
    before = {1: "mitochondria", 2: "mitochondria", 3: "vesicles"}
    assert renamed(before, {"mitochondria": (2, 3)}) == {2: "mitochondria", 3: "mitochondria"}
    assert renamed(before, {"mitochondria": ()}) == {3: "vesicles"}
    assert renamed(before, {}) == before


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ({1: "nuclei"}, "no class 'nuclei' to name clusters after: use mitochondria or vesicles"),
        ({1: "background"}, "no class 'background'"),
        ({6: "vesicles"}, "no cluster 6: the run has clusters 1 to 5"),
        ({0: "vesicles"}, "no cluster 0"),
    ],
)
def test_invalid_names_are_refused_and_change_nothing(names, words, clustered):
    clustered.predictions.name_clusters(RUN, "v", {2: "vesicles"})
    with pytest.raises(SettingsError, match=words):
        clustered.predictions.name_clusters(RUN, "v", names)
    assert clustered.run(RUN).cluster_names() == {2: "vesicles"}


def test_a_damaged_file_of_names_is_reported(clustered):
    (clustered.folder / "runs" / RUN / "names.json").write_text('{"3": ')
    with pytest.raises(JobError, match="is damaged: delete it and name the clusters again"):
        clustered.run(RUN).cluster_names()


def test_runs_that_predict_classes_have_no_clusters_to_name(clustered):
    run = clustered.folder / "runs" / "002-plain"
    run.mkdir()
    (run / "checkpoint.safetensors").touch()
    zarr.open_group(run / "probabilities.zarr", mode="a")
    zarr.create_array(run / "probabilities.zarr" / "v", data=np.zeros((2, 4, 20, 30), np.uint8))
    with pytest.raises(JobError, match="'002-plain' has found no clusters in 'v'"):
        clustered.predictions.name_clusters("002-plain", "v", {1: "vesicles"})
    assert clustered.predictions.of("002-plain", "v").classes.shape == (2, 4, 20, 30)


# -- what follows from names ---------------------------------------------------------------------


def test_classes_are_sums_of_their_clusters(stored):
    named = NamedClusters(stored, {2: "vesicles", 1: "mitochondria", 5: "mitochondria"}, CLASSES)
    expected = np.stack([stored[0].astype(int) + stored[4], stored[1]])
    assert expected.max() <= 255
    assert named.shape == expected.shape
    for key in (
        np.s_[:, 1],
        np.s_[0, 1:3, :, 2:9],
        np.s_[:, 0:2, 3:5, 7:8],
        np.s_[1:2],
        np.s_[1, 2, 3, 4],
    ):
        assert np.array_equal(named[key], expected[key])
    assert not NamedClusters(stored, {1: "vesicles"}, CLASSES)[0].any()


def test_no_class_is_predicted_before_a_cluster_has_a_name(clustered):
    assert clustered.predictions.of(RUN, "v").classes is None
    assert clustered.predictions.of(RUN, "v").clusters.shape[0] == 5
    clustered.predictions.name_clusters(RUN, "v", {4: "vesicles"})
    reopened = Project.open(clustered.folder)
    assert np.array_equal(
        reopened.predictions.of(RUN, "v").classes[1], clustered.predictions.of(RUN, "v").clusters[3]
    )
    assert clustered.run(RUN).cluster_names() == {4: "vesicles"}


def test_named_clusters_are_the_proposal_for_a_patch_and_change_no_annotation(clustered, stored):
    painted = clustered.annotations.require("v")
    painted[0, :5, :5] = 1
    clustered.predictions.name_clusters(RUN, "v", {1: "mitochondria", 2: "vesicles"})
    (region,) = clustered.regions.suggest(
        [{"volume": "v", "box": "0:1,0:20,0:20", "score": 1.0}], "coverage", RUN
    )
    merged = np.stack([stored[0], stored[1]])
    assert np.array_equal(
        clustered.predictions.in_region(region), class_ids(merged[:, 0:1, :20, :20])
    )
    assert np.count_nonzero(painted[:]) == 25


def test_shares_are_those_of_the_likeliest_clusters(stored):
    counts = np.bincount(stored.argmax(0).ravel(), minlength=5)
    # Rounded to 255 levels, a few voxels have two most probable clusters.
    np.testing.assert_allclose(shares(stored), counts / counts.sum(), atol=0.002)


def test_shares_are_those_of_the_part_that_is_predicted(stored):
    part = Coverage.of(stored.shape[1:], [Box((1, 3, 0), (3, 17, 30)), Box((0, 0, 5), (1, 4, 9))])
    inside = part.inside(Box.whole(stored.shape[1:]))
    partial = np.where(inside, stored, 0)
    counts = np.bincount(stored.argmax(0)[inside], minlength=5)
    np.testing.assert_allclose(shares(partial, part), counts / counts.sum(), atol=0.004)


# -- jobs ----------------------------------------------------------------------------------------


@pytest.fixture
def predicted_already(monkeypatch):
    """Jobs find their prediction complete, and a model of five clusters."""
    header = SimpleNamespace(
        classes=("none", *(f"cluster {k}" for k in range(1, 6))), features_only=False
    )
    for module in ("score", "export"):
        monkeypatch.setattr(f"napari_emda.jobs.{module}.ensure_predicted", lambda *_: iter(()))
    monkeypatch.setattr("napari_emda.inference.checkpoint.read_header", lambda path: header)


def exported(project, to, what="mask"):
    job = ExportJob(project=str(project.folder), what=what, to=str(to), run=RUN, volume="v")
    list(execute(job))
    return np.asarray(open_labels(to).array[:])


@pytest.mark.usefixtures("predicted_already")
def test_without_names_a_mask_holds_cluster_numbers(clustered, stored, tmp_path):
    assert np.array_equal(exported(clustered, tmp_path / "ids.tif"), class_ids(stored))
    clustered.predictions.name_clusters(RUN, "v", {3: "vesicles"})
    mask = exported(clustered, tmp_path / "mask.tif")
    assert set(np.unique(mask)) == {0, 2}
    assert np.array_equal(mask == 2, stored[2] > 127)


def test_uncertainty_is_the_entropy_of_the_classes(clustered, stored):
    assert clustered.predictions.of(RUN, "v").uncertainty is None
    clustered.predictions.name_clusters(
        RUN, "v", {1: "mitochondria", 4: "mitochondria", 3: "vesicles"}
    )
    uncertainty = clustered.predictions.of(RUN, "v").uncertainty
    assert (uncertainty.shape, uncertainty.dtype) == (stored.shape[1:], np.uint8)
    named = np.stack([stored[[0, 3]].sum(0, dtype=int), stored[2]]) / 255
    expected = entropy(np.concatenate([1 - named.sum(0, keepdims=True), named]), base=3, axis=0)
    np.testing.assert_allclose(uncertainty[:] / 255, expected, atol=0.5 / 255 + 1e-6)
    np.testing.assert_array_equal(uncertainty[1:3, 4:9, ::2], uncertainty[:][1:3, 4:9, ::2])


def test_there_is_no_uncertainty_between_clusters_of_one_class(clustered):
    clustered.predictions.name_clusters(RUN, "v", dict.fromkeys(range(1, 6), "mitochondria"))
    # Not 0: the stored probabilities of five clusters are rounded one by one.
    assert clustered.predictions.of(RUN, "v").uncertainty[:].max() < 5


@pytest.mark.usefixtures("predicted_already")
def test_objects_and_scores_need_names_before_anything_is_predicted(
    clustered, monkeypatch, tmp_path
):
    for module in ("score", "export"):
        monkeypatch.setattr(
            f"napari_emda.jobs.{module}.ensure_predicted",
            lambda *_: pytest.fail("a prediction may take hours"),
        )
    with pytest.raises(JobError, match="clusters that have no names yet: say which of them belong"):
        exported(clustered, tmp_path / "objects.tif", "objects")
    assert not (tmp_path / "objects.tif").exists()
    truth = clustered.volumes.store("truth", np.eye(4, 20, dtype=np.uint8)[..., None].repeat(30, 2))
    score = ScoreJob(project=str(clustered.folder), against=str(truth), run=RUN, volume="v")
    with pytest.raises(JobError, match="clusters that have no names yet"):
        list(execute(score))
