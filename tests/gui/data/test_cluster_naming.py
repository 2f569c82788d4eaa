"""The model of naming clusters, without widgets: shares, clicks, and the names on disk."""

import json

import numpy as np
import pytest
import zarr

from napari_emda._gui.common.palette import cluster_colour
from napari_emda._gui.data.cluster_naming import ClusterNaming, ClusterRow
from napari_emda.data.class_colours import class_colour
from napari_emda.errors import JobError
from napari_emda.project.job_files import TrainJob, write_job

RUN = "001-iic"


@pytest.fixture
def naming(clustered):
    model = ClusterNaming(clustered)
    model.choose(RUN, "target")
    return model


def on_disk(project):
    path = project.folder / "runs" / RUN / "names.json"
    return {int(k): name for k, name in json.loads(path.read_text()).items()}


def test_only_runs_that_learnt_no_classes_have_clusters_the_newest_first(
    naming, clustered, catalogue
):
    for run, method in (("002-auto", "auto"), ("003-iic", "iic")):
        folder = clustered.folder / "runs" / run
        folder.mkdir()
        (folder / "checkpoint.safetensors").touch()
        write_job(TrainJob(project=str(clustered.folder), method=method), folder / "job.json")
    assert naming.runs(catalogue) == ["003-iic", RUN]


def test_nothing_is_shown_before_a_run_is_chosen_or_has_predicted(clustered, naming):
    assert ClusterNaming(clustered).clusters() is None
    assert ClusterNaming(clustered).rows({}) == []
    naming.choose(RUN, "elsewhere")
    assert naming.clusters() is None
    assert naming.cluster_at((0, 0, 0)) is None


def test_a_click_names_a_cluster_and_the_next_one_takes_that_back(naming, clustered):
    naming.toggle(2, "mitochondria")
    naming.toggle(3, "vesicles")
    assert naming.names() == on_disk(clustered) == {2: "mitochondria", 3: "vesicles"}
    naming.toggle(2, "vesicles")
    assert on_disk(clustered) == {2: "vesicles", 3: "vesicles"}
    naming.toggle(2, "vesicles")
    naming.toggle(3, "vesicles")
    assert on_disk(clustered) == {}


def test_names_that_cannot_be_read_are_not_written_over(naming, clustered):
    path = clustered.folder / "runs" / RUN / "names.json"
    path.write_text("[1, 2")
    with pytest.raises(JobError, match="delete it and name the clusters again"):
        naming.toggle(1, "vesicles")
    assert path.read_text() == "[1, 2"


def test_the_rows_are_the_clusters_with_their_shares_and_the_colours_on_view(naming):
    measured = np.array([0.5, 0.25, 0.125])
    assert [row.share for row in naming.rows({})] == ["…"] * 3
    naming.keep_shares(RUN, "target", measured)
    assert naming.rows({2: "vesicles"}) == [
        ClusterRow(1, "50.0%", "", cluster_colour(1)),
        ClusterRow(2, "25.0%", "vesicles", class_colour(2)),
        ClusterRow(3, "12.5%", "", cluster_colour(3)),
    ]


def test_shares_belong_to_a_run_and_a_volume_until_it_is_predicted_anew(naming):
    measured = np.array([0.2, 0.3, 0.5])
    naming.keep_shares(RUN, "target", measured)
    naming.choose(RUN, "other")
    assert naming.shares is None
    naming.forget_shares("002-iic", "target")
    naming.choose(RUN, "target")
    assert naming.shares is measured
    naming.forget_shares(RUN, "target")
    assert naming.shares is None


def test_the_sum_is_said_in_words(naming):
    names = {1: "mitochondria", 3: "mitochondria", 2: "vesicles"}
    assert naming.in_words({}) == ""
    assert naming.in_words(names) == "mitochondria: 2 clusters; vesicles: 1 cluster."
    naming.keep_shares(RUN, "target", np.array([0.2, 0.3, 0.5]))
    assert naming.in_words(names) == (
        "mitochondria: 2 clusters, 70.0% of the voxels; vesicles: 1 cluster, 30.0% of the voxels."
    )


def test_the_cluster_under_a_voxel_is_the_likeliest_where_anything_is_predicted(naming, clustered):
    stored = np.asarray(naming.clusters()[:])
    rng = np.random.default_rng(0)
    for voxel in rng.integers(0, stored.shape[1:], (30, 3)).tolist():
        expected = int(stored[:, *voxel].argmax()) + 1
        assert naming.cluster_at(tuple(voxel)) == expected
    z, _, x = stored.shape[1:]
    assert all(naming.cluster_at(voxel) is None for voxel in ((z, 0, 0), (0, -1, 0), (0, 0, x)))
    folder = clustered.folder / "runs" / RUN / "probabilities.zarr"
    zarr.open_array(folder / "target", mode="r+")[:, 0] = 0
    assert naming.cluster_at((0, 0, 0)) is None
