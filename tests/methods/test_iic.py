"""Clusters without labels: their loss, collapse, and projects that start from them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.optimize import linear_sum_assignment
from skimage.util import view_as_windows
from sklearn.metrics import confusion_matrix, mutual_info_score

from napari_emda.cli import main
from napari_emda.data.box import Box
from napari_emda.data.probabilities import class_ids
from napari_emda.data.volume import Volume
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.errors import JobError
from napari_emda.events import Notice, Stepped
from napari_emda.inference import checkpoint
from napari_emda.inference.predictor import Predictor, predict_box
from napari_emda.jobs.execute import execute
from napari_emda.jobs.prepare_training import prepare
from napari_emda.jobs.preview import PreviewRequest, PreviewWriter
from napari_emda.nn.information import mutual_information
from napari_emda.project.job_files import ExportJob, PredictJob, SuggestJob, TrainJob
from napari_emda.project.project import Project
from napari_emda.project.run_folder import RunFolder
from napari_emda.sampling.patches import Patches
from napari_emda.sampling.randaugment import turn
from napari_emda.settings.prediction import PredictSettings
from napari_emda.settings.suggestion import QuerySettings
from napari_emda.settings.training import TrainSettings
from napari_emda.training.loop import fit
from tests.methods.test_uda import by_scipy
from tests.nn.test_information import brute_force

SETTINGS = TrainSettings(steps=2, patch=32, batch=2, device="cpu", precision="32", validations=0)


@pytest.fixture
def unlabelled(phantom_files, tmp_path):
    """A project whose only volume is an unlabelled target."""
    with Project.create(tmp_path / "unlabelled", ("background", "mitochondria")) as project:
        project.volumes.add(phantom_files["target", "image"], "target", name="target")
        yield project


def prepared_training(project, method="iic", start=None, **settings):
    job = TrainJob(
        project=str(project.folder),
        method=method,
        settings=SETTINGS,
        network_settings={"base_channels": 8},
        start_from=start,
    )
    folder = project.runs.new(method)
    training, _ = prepare(project, job.model_copy(update={"method_settings": settings}), folder)
    training.folder = folder
    return training


# -- clusters and their loss -----------------------------------------------------------------------


def test_balance_is_the_weight_of_the_marginals(noise):
    joint = noise.random((3, 5, 5))
    joint /= joint.sum((1, 2), keepdims=True)
    rows = joint.sum(2, keepdims=True)
    columns = joint.sum(1, keepdims=True)
    for balance in (0.5, 1.0, 1.5):
        expected = (joint * (np.log(joint) - balance * np.log(rows * columns))).sum((1, 2))
        np.testing.assert_allclose(mutual_information(torch.as_tensor(joint), balance), expected)


@pytest.fixture(scope="module")
def tissue():
    """A noisy image with regions of four grey values, 2 x 96 x 96, and the ids of the regions.

    All four grey values are equally frequent.
    """
    rng = np.random.default_rng(0)
    smooth = gaussian_filter(rng.normal(size=(2, 96, 96)), (0, 6, 6), mode="wrap")
    region_ids = np.digitize(smooth, np.quantile(smooth, (0.25, 0.5, 0.75)))
    image = 60 * region_ids + rng.normal(0, 10, region_ids.shape)
    return image.astype(np.float32), region_ids


# The loss itself is compared with calculations by hand below.
@pytest.mark.slow
def test_clusters_follow_the_regions(make_training, tissue, tmp_path):
    """Guessing gets a quarter of the pixels right; the clusters get more than twice as many.

    After 120 steps, seeds 0 to 2 got 0.58 to 0.67 right, with a mutual information of 0.43 to
    0.49 log 4.
    """
    image, region_ids = tissue
    volume = Volume("tissue", image, "target", VoxelGrid((10, 10, 10)))
    values = {"steps": 120, "batch": 8, "learning_rate": 0.003, "report_every": 5}
    training = make_training(
        [volume], tmp_path / "run", "iic", {"clusters": 4, "displacement": 0}, **values
    )
    *_, last = [event for event in fit(training) if isinstance(event, Stepped)]
    assert 0.3 < last.losses["information"] / np.log(4) < 0.9
    assert not training.method.alarm()
    predictor = Predictor(training.method.predictor, training.header, training.compute)
    ids = class_ids(predict_box(predictor, volume, Box((1, 0, 0), (2, 96, 96))))
    assert ids.min() >= 1
    table = confusion_matrix(region_ids[1].ravel(), ids.ravel() - 1, labels=range(4))
    assert table[linear_sum_assignment(-table)].sum() / ids.size > 0.5
    assert mutual_info_score(region_ids[1].ravel(), ids.ravel()) > 0.4 * np.log(4)


def test_the_loss_is_that_of_a_calculation_by_hand(target, make_training, tmp_path):
    """Both heads, by a loop over pixels and displacements.

    SciPy rotates the probabilities of the second view back.
    """
    settings = {"clusters": 3, "finer": 2, "displacement": 1, "balance": 1.3}
    method = make_training(
        [target], tmp_path / "run", "iic", settings, network_settings={"dropout": 0}
    ).method
    clean, other = torch.randn(2, 2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    outputs = {"clusters": [], "overclustering": []}
    heads = {"clusters": method.network.head, "overclustering": method.overclustering_head}
    for name, head in heads.items():
        head.register_forward_hook(
            lambda module, inputs, output, name=name: outputs[name].append(output)
        )
    torch.manual_seed(7)
    angle = 2 * np.pi * torch.rand(2)
    views = []
    encode = method.network.encode
    method.network.encode = lambda image: views.append(image) or encode(image)
    patches = Patches(other, torch.zeros(2, 32, 32, dtype=torch.long), clean)
    torch.manual_seed(7)
    losses = method.losses({"target": patches}, 0.0)
    assert torch.equal(views[0], clean)
    assert torch.equal(views[1], turn(other, angle, padding="reflection"))
    joints = {}
    for name, k in (("clusters", 3), ("overclustering", 6)):
        p, q = (logits.detach().double()[:, -k:].softmax(1).numpy() for logits in outputs[name])
        assert p.shape == (2, k, 32, 32)
        back, inside = by_scipy(q, angle.numpy())
        joint = joints[name] = brute_force(p, back, inside, 1)
        rows = joint.sum(-1, keepdims=True)
        columns = joint.sum(-2, keepdims=True)
        expected = -(joint * (np.log(joint) - 1.3 * np.log(rows * columns))).sum((-1, -2)).mean()
        assert float(losses[name].detach()) == pytest.approx(expected, rel=1e-3)
    # The running joint distribution, from which collapse is detected, follows slowly.
    undisplaced = joints["clusters"][1, 1]
    expected = 0.95 * np.eye(3) / 3 + 0.05 * undisplaced
    np.testing.assert_allclose(method.joint, expected, atol=1e-4)
    largest = float(method.reported["largest_cluster"])
    assert largest == pytest.approx(undisplaced.sum(0).max(), abs=1e-3)


def test_labels_are_not_even_used_to_sample_patches(
    make_training, source, noise, tmp_path, same_weights
):
    other = replace(source, labels=noise.integers(0, 2, source.shape).astype(np.uint8))
    trainings = [make_training([volume], tmp_path / "run", "iic") for volume in (source, other)]
    for training in trainings:
        training.step(training.batch(0), 0)
    assert same_weights(trainings[0].method, trainings[1].method)


# -- collapse --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("joint", "message"),
    [
        (np.eye(4) / 4, ""),
        (np.diag([0.01, 0.01, 0.97, 0.01]), "Cluster 3 takes 97%"),
        (np.full((4, 4), 1 / 16), "The clusters hardly depend on the image"),
    ],
)
def test_a_collapse_raises_an_alarm(joint, message, make_training, target, tmp_path):
    training = make_training([target], tmp_path / "run", "iic", {"clusters": 4})
    training.method.joint.copy_(torch.as_tensor(joint))
    alarm = training.method.alarm()
    assert (message in alarm) if message else not alarm


def test_the_alarm_is_raised_once_after_the_warm_up(make_training, target, tmp_path, monkeypatch):
    training = make_training([target], tmp_path / "run", "iic", steps=8)
    monkeypatch.setattr(type(training.method), "alarm", lambda self: "All is lost.")
    events = list(fit(training))
    (index,) = [i for i, event in enumerate(events) if event == Notice("All is lost.")]
    assert events[index - 1].step == 2


# -- projects without labels -----------------------------------------------------------------------


def test_one_unlabelled_volume_is_enough(unlabelled):
    training = prepared_training(unlabelled, clusters=3)
    list(fit(training))
    header = checkpoint.read_header(training.path)
    assert header.classes == ("none", "cluster 1", "cluster 2", "cluster 3")
    assert header.prediction_domain == "target"


@pytest.mark.parametrize("alarm", ["", "All is lost."])
def test_the_last_event_repeats_the_alarm(unlabelled, monkeypatch, alarm):
    monkeypatch.setattr("napari_emda.methods.iic.IIC.alarm", lambda self: alarm)
    job = TrainJob(
        project=str(unlabelled.folder),
        method="iic",
        settings=SETTINGS,
        network_settings={"base_channels": 8},
    )
    *_, end = execute(job)
    assert end.result.get("warnings") == ([alarm] if alarm else None)
    assert end.text.endswith(alarm or "name those that you need.")
    assert end.details == "The model of the last step (2) was kept."


@pytest.mark.parametrize("method", ["finetune", "uda"])
def test_methods_that_need_labels_are_refused_without_any(method, unlabelled):
    with pytest.raises(JobError, match=r"learns from labels and there are none: .* choose iic"):
        prepared_training(unlabelled, method)


@pytest.mark.parametrize("method", ["finetune", "uda"])
def test_annotations_without_a_source_are_enough_for_some_methods(method, unlabelled, phantoms):
    list(fit(prepared_training(unlabelled)))
    unlabelled.annotations.require("target")[0] = phantoms["target"][1][0] + 1
    training = prepared_training(unlabelled, method, start=unlabelled.runs.names()[0])
    list(fit(training))
    assert checkpoint.read_header(training.path).classes == ("background", "mitochondria")


@pytest.fixture
def denoised(unlabelled):
    """A training by denoising in a project without labels, which learns only features."""
    training = prepared_training(unlabelled, "denoising")
    training.events = list(fit(training))
    return training


def test_denoising_without_labels_only_restores_patches(denoised):
    steps = [event for event in denoised.events if isinstance(event, Stepped)]
    assert all(set(event.losses) == {"target_restoration"} for event in steps)
    notices = [event.text for event in denoised.events if isinstance(event, Notice)]
    assert any("Nothing is labelled" in text for text in notices)


def test_a_run_without_classes_cannot_predict_or_export(denoised, unlabelled):
    (run,) = unlabelled.runs.names()
    project = str(unlabelled.folder)
    mask = str(unlabelled.folder.with_name("mask.tif"))
    message = "trained without labels and predicts nothing: annotate some patches"
    for job in (
        PredictJob(project=project, run=run),
        ExportJob(project=project, run=run, what="mask", to=mask),
    ):
        with pytest.raises(JobError, match=message):
            list(execute(job))


def test_a_run_without_classes_previews_nothing(denoised, unlabelled):
    request = PreviewRequest()
    request.set("target", Box((0, 0, 0), (1, 32, 32)))
    volumes = {"target": unlabelled.volumes.open("target")}
    folder = RunFolder(denoised.path.parent)
    assert not list(PreviewWriter(denoised, volumes, request, folder).due(1))


def test_a_run_without_classes_suggests_patches_only_by_features(denoised, unlabelled):
    (run,) = unlabelled.runs.names()

    def suggest(strategy):
        settings = QuerySettings(strategy=strategy, patch=32, count=2, device="cpu")
        return SuggestJob(project=str(unlabelled.folder), run=run, settings=settings)

    for strategy in ("entropy", "bald"):
        with pytest.raises(JobError, match="has no uncertainty to rank by: choose core_set"):
            list(execute(suggest(strategy)))
    assert len(list(execute(suggest("core_set")))[-1].result["regions"]) == 2
    # No prediction is stored for the suggested patches.
    assert unlabelled.predictions.of(run, "target") is None


def test_after_annotation_trainings_start_from_denoised_features(denoised, unlabelled, phantoms):
    (run,) = unlabelled.runs.names()
    unlabelled.annotations.require("target")[0] = phantoms["target"][1][0] + 1
    started = prepared_training(unlabelled, "finetune", start=run)
    # Only features are known, not yet classes.
    assert not started.method.summary.continued
    for key, value in started.method.network.state_dict().items():
        assert torch.equal(value, denoised.method.network.state_dict()[key]), key
    again = prepared_training(unlabelled, "denoising")
    assert not again.header.features_only
    assert set(again.method.losses(again.batch(1), 0.5)) == {"target_segmentation"}


@pytest.mark.parametrize("method", ["source_only", "auto"])
def test_other_methods_start_from_the_features_with_a_new_last_layer(method, project):
    first = prepared_training(project)
    list(fit(first))
    fresh = prepared_training(project, method)
    started = prepared_training(project, method, start=project.runs.names()[0])
    for key, value in started.method.network.state_dict().items():
        is_new = key.startswith(("head.", "offset"))
        expected = (fresh if is_new else first).method.network.state_dict()[key]
        assert torch.equal(value, expected), key
    # Only features are known, not yet classes.
    assert not started.method.summary.continued


def test_more_or_equally_many_clusters_can_start_from_another_run(unlabelled):
    list(fit(prepared_training(unlabelled, clusters=3)))
    (run,) = unlabelled.runs.names()
    image = torch.randn(1, 1, 32, 32)
    for k in (5, 3):
        training = prepared_training(unlabelled, start=run, clusters=k)
        predictor = Predictor(training.method.predictor, training.header, training.compute)
        probabilities = predictor.probabilities(image, "target")
        assert probabilities.shape[1] == k + 1
        assert probabilities[:, 0].max() == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--class", "nuclei=1"], "no class 'nuclei'"),
        (["--class", "mitochondria=9"], "clusters 1 to 4"),
        (["--class", "mitochondria=1", "--out", "{existing}"], "exists already"),
        (["--class", "mitochondria=1", "--out", "mask.docx"], "mask.docx"),
    ],
)
def test_wrong_names_and_paths_are_refused_before_anything_is_written(
    arguments, message, unlabelled, tmp_path, capsys
):
    list(fit(prepared_training(unlabelled, clusters=4)))
    (run,) = unlabelled.runs.names()
    unlabelled.close()
    existing = tmp_path / "existing.tif"
    existing.touch()
    arguments = [text.format(existing=existing) for text in arguments]
    with pytest.raises(SystemExit) as end:
        main(["name-clusters", str(unlabelled.folder), *arguments])
    assert end.value.code == 2
    assert message in capsys.readouterr().err
    assert not unlabelled.run(run).cluster_names()
    assert not (unlabelled.run(run).path / "probabilities.zarr").exists()


def test_suggestions_from_named_clusters_use_the_uncertainty_of_the_classes(unlabelled):
    list(fit(prepared_training(unlabelled, clusters=4)))
    (run,) = unlabelled.runs.names()
    *_, predicted = execute(
        PredictJob(project=str(unlabelled.folder), run=run, settings=PredictSettings(device="cpu"))
    )
    count = len(checkpoint.read_header(unlabelled.run(run).checkpoint).classes) - 1
    assert f"'target' is sorted into {count} clusters with run {run}." in predicted.text
    query = QuerySettings(strategy="entropy", patch=32, count=3, device="cpu")
    job = SuggestJob(project=str(unlabelled.folder), run=run, settings=query)
    unlabelled.predictions.name_clusters(run, "target", {2: "mitochondria"})
    *_, last = execute(job)
    uncertainty = unlabelled.predictions.of(run, "target").uncertainty[:] / 255
    means = view_as_windows(uncertainty, (1, 32, 32), (1, 8, 8)).mean((3, 4, 5))
    scores = [region["score"] for region in last.result["regions"]]
    boxes = [Box.parse(region["box"], uncertainty.shape) for region in last.result["regions"]]
    assert scores == pytest.approx([uncertainty[box.slices].mean() for box in boxes])
    assert scores[0] == pytest.approx(means.max())
    unlabelled.predictions.name_clusters(run, "target", dict.fromkeys((1, 2, 3, 4), "mitochondria"))
    *_, last = execute(job)
    # With one class there is no uncertainty, except by rounding.
    assert max(region["score"] for region in last.result["regions"]) < 0.02
