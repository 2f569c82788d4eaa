"""Clusters without labels: what they hold, what they are kept from seeing, and what other trainings make of them."""

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
from napari_emda.sampling.randaugment import turn
from napari_emda.sampling.sampler import Patches
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


def prepared(project, method="iic", start=None, **settings):
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


# -- what is learnt ----------------------------------------------------------------------------------------------


def test_balance_weighs_the_marginals_as_the_formula_says(noise):
    joint = noise.random((3, 5, 5))
    joint /= joint.sum((1, 2), keepdims=True)
    rows, columns = joint.sum(2, keepdims=True), joint.sum(1, keepdims=True)
    for balance in (0.5, 1.0, 1.5):
        expected = (joint * (np.log(joint) - balance * np.log(rows * columns))).sum((1, 2))
        np.testing.assert_allclose(mutual_information(torch.as_tensor(joint), balance), expected)


@pytest.fixture(scope="module")
def tissue():
    """Regions of four grey values of equal shares under noise, 2 x 96 x 96, and which is where."""
    rng = np.random.default_rng(0)
    smooth = gaussian_filter(rng.normal(size=(2, 96, 96)), (0, 6, 6), mode="wrap")
    kinds = np.digitize(smooth, np.quantile(smooth, (0.25, 0.5, 0.75)))
    return (60 * kinds + rng.normal(0, 10, kinds.shape)).astype(np.float32), kinds


def test_clusters_follow_the_kinds_of_tissue(make_training, tissue, tmp_path):
    """Guessing gets a quarter of the pixels right; the clusters get more than twice as many.

    Seeds 0 to 4 got 0.66 to 0.81 right, with a mutual information of 0.52 to 0.65 log 4.
    """
    image, kinds = tissue
    volume = Volume("tissue", image, "target", VoxelGrid((10, 10, 10)))
    values = {"steps": 250, "batch": 8, "learning_rate": 0.003, "report_every": 5}
    training = make_training(
        [volume], tmp_path / "run", "iic", {"clusters": 4, "displacement": 0}, **values
    )
    *_, last, _ = list(fit(training))
    assert 0.3 < last.losses["information"] / np.log(4) < 0.9
    assert not training.method.alarm()
    predictor = Predictor(training.method.predictor, training.header, training.compute)
    ids = class_ids(predict_box(predictor, volume, Box((1, 0, 0), (2, 96, 96))))
    assert ids.min() >= 1
    table = confusion_matrix(kinds[1].ravel(), ids.ravel() - 1, labels=range(4))
    assert table[linear_sum_assignment(-table)].sum() / ids.size > 0.5
    assert mutual_info_score(kinds[1].ravel(), ids.ravel()) > 0.4 * np.log(4)


def test_the_loss_is_that_of_a_calculation_by_hand(target, make_training, tmp_path):
    """Two views, the second turned and its clusters turned back by SciPy, both heads, a loop over pixels and shifts."""
    settings = {"clusters": 3, "finer": 2, "displacement": 1, "balance": 1.3}
    method = make_training(
        [target], tmp_path / "run", "iic", settings, network_settings={"dropout": 0}
    ).method
    clean, other = torch.randn(2, 2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    answers = {"clusters": [], "finer_clusters": []}
    for name, head in (
        ("clusters", method.network.head),
        ("finer_clusters", method.overclustering_head),
    ):
        head.register_forward_hook(
            lambda module, given, answer, name=name: answers[name].append(answer)
        )
    torch.manual_seed(7)
    angle = 2 * np.pi * torch.rand(2)
    seen, encode = [], method.network.encode
    method.network.encode = lambda image: seen.append(image) or encode(image)
    torch.manual_seed(7)
    losses = method.losses(
        {"target": Patches(other, torch.zeros(2, 32, 32, dtype=torch.long), clean)}, 0.0
    )
    assert torch.equal(seen[0], clean)
    assert torch.equal(seen[1], turn(other, angle, padding="reflection"))
    for name, k in (("clusters", 3), ("finer_clusters", 6)):
        logits = [answer.detach().double()[:, -k:] for answer in answers[name]]
        p, q = (each.softmax(1).numpy() for each in logits)
        assert p.shape == (2, k, 32, 32)
        back, inside = by_scipy(q, angle.numpy())
        table = brute_force(p, back, inside, 1)
        rows, columns = table.sum(-1, keepdims=True), table.sum(-2, keepdims=True)
        expected = -(table * (np.log(table) - 1.3 * np.log(rows * columns))).sum((-1, -2)).mean()
        assert float(losses[name].detach()) == pytest.approx(expected, rel=1e-3)
        if name == "clusters":  # what the alarm goes by follows slowly
            np.testing.assert_allclose(
                method.joint, 0.95 * np.eye(3) / 3 + 0.05 * table[1, 1], atol=1e-4
            )
            assert float(method.reported["largest_cluster"]) == pytest.approx(
                table[1, 1].sum(0).max(), abs=1e-3
            )


def test_labels_are_not_even_used_to_draw_patches(
    make_training, source, noise, tmp_path, same_weights
):
    other = replace(source, labels=noise.integers(0, 2, source.shape).astype(np.uint8))
    trained = [make_training([volume], tmp_path / "run", "iic") for volume in (source, other)]
    for training in trained:
        training.step(training.batch(0), 0)
    assert same_weights(trained[0].method, trained[1].method)


# -- collapse ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("joint", "said"),
    [
        (np.eye(4) / 4, ""),
        (np.diag([0.01, 0.01, 0.97, 0.01]), "cluster 3 takes 97%"),
        (np.full((4, 4), 1 / 16), "they hold 0.00 of at most 1.39 nats"),
    ],
)
def test_a_collapse_is_told(joint, said, make_training, target, tmp_path):
    training = make_training([target], tmp_path / "run", "iic", {"clusters": 4})
    training.method.joint.copy_(torch.as_tensor(joint))
    alarm = training.method.alarm()
    assert (said in alarm) if said else not alarm


def test_the_alarm_is_raised_once_after_the_warm_up(make_training, target, tmp_path, monkeypatch):
    training = make_training([target], tmp_path / "run", "iic", steps=8)
    monkeypatch.setattr(type(training.method), "alarm", lambda self: "All is lost.")
    events = list(fit(training))
    at = [index for index, event in enumerate(events) if event == Notice("All is lost.")]
    assert len(at) == 1
    assert events[at[0] - 1].step == 2


# -- projects without labels -------------------------------------------------------------------------------------


def test_one_unlabelled_volume_is_enough(unlabelled):
    training = prepared(unlabelled, clusters=3)
    list(fit(training))
    header = checkpoint.read_header(training.path)
    assert header.classes == ("none", "cluster 1", "cluster 2", "cluster 3")
    assert header.prediction_domain == "target"


@pytest.mark.parametrize("alarm", ["", "All is lost."])
def test_what_went_wrong_is_told_apart_at_the_end(unlabelled, monkeypatch, alarm):
    monkeypatch.setattr("napari_emda.methods.iic.IIC.alarm", lambda self: alarm)
    job = TrainJob(
        project=str(unlabelled.folder),
        method="iic",
        settings=SETTINGS,
        network_settings={"base_channels": 8},
    )
    *_, end = execute(job)
    assert end.result.get("warnings") == ([alarm] if alarm else None)
    assert end.text.endswith(f"(2). {alarm}".strip())


@pytest.mark.parametrize("method", ["finetune", "uda"])
def test_methods_that_learn_from_labels_say_that_there_are_none(method, unlabelled):
    with pytest.raises(JobError, match=r"learns from labels and there are none: .* choose iic"):
        prepared(unlabelled, method)


@pytest.mark.parametrize("method", ["finetune", "uda"])
def test_annotations_alone_are_enough_for_methods_that_take_them(method, unlabelled, phantoms):
    list(fit(prepared(unlabelled)))
    unlabelled.annotations.require("target")[0] = phantoms["target"][1][0] + 1
    training = prepared(unlabelled, method, start=unlabelled.runs.names()[0])
    list(fit(training))
    assert checkpoint.read_header(training.path).classes == ("background", "mitochondria")


def test_denoising_learns_features_where_nothing_is_labelled(unlabelled, phantoms):
    first = prepared(unlabelled, "denoising")
    events = list(fit(first))
    steps = [event for event in events if isinstance(event, Stepped)]
    assert all(set(event.losses) == {"target_restoration"} for event in steps)
    assert any(
        isinstance(event, Notice) and "Nothing is labelled" in event.text for event in events
    )
    (run,) = unlabelled.runs.names()
    kept = {"project": str(unlabelled.folder), "run": run}
    for job in (
        PredictJob(**kept),
        ExportJob(what="mask", to=str(unlabelled.folder / "mask.tif"), **kept),
    ):
        with pytest.raises(
            JobError, match="trained without labels and predicts nothing: annotate some patches"
        ):
            list(execute(job))
    for strategy, fits in (("entropy", False), ("bald", False), ("core_set", True)):
        query = SuggestJob(
            settings=QuerySettings(strategy=strategy, patch=32, count=2, device="cpu"), **kept
        )
        if fits:
            assert len(list(execute(query))[-1].result["regions"]) == 2
            continue
        with pytest.raises(JobError, match="has no uncertainty to rank by: choose core_set"):
            list(execute(query))
    # nothing is painted into patches, or shown, that nobody has taught
    assert unlabelled.predictions.of(run, "target") is None
    view = PreviewRequest()
    view.set("target", Box((0, 0, 0), (1, 32, 32)))
    assert not list(
        PreviewWriter(
            first, {"target": unlabelled.volumes.open("target")}, view, RunFolder(first.path.parent)
        ).due(1)
    )
    unlabelled.annotations.require("target")[0] = phantoms["target"][1][0] + 1
    started = prepared(unlabelled, "finetune", start=run)
    assert (
        not started.method.summary.continued
    )  # it has features, and does not yet know the classes
    for key, value in started.method.network.state_dict().items():
        assert torch.equal(value, first.method.network.state_dict()[key]), key
    again = prepared(unlabelled, "denoising")
    assert not again.header.features_only
    assert set(again.method.losses(again.batch(1), 0.5)) == {"target_segmentation"}


@pytest.mark.parametrize("method", ["source_only", "auto"])
def test_other_methods_start_from_its_features_with_a_last_layer_of_their_own(method, project):
    first = prepared(project)
    list(fit(first))
    fresh, started = (
        prepared(project, method),
        prepared(project, method, start=project.runs.names()[0]),
    )
    for key, value in started.method.network.state_dict().items():
        like = fresh.method.network if key.startswith(("head.", "offset")) else first.method.network
        assert torch.equal(value, like.state_dict()[key]), key
    assert (
        not started.method.summary.continued
    )  # it has features, and does not yet know the classes


def test_more_clusters_start_from_the_features_of_fewer_and_equals_go_on(unlabelled):
    list(fit(prepared(unlabelled, clusters=3)))
    more, on = (prepared(unlabelled, start=unlabelled.runs.names()[0], clusters=k) for k in (5, 3))
    image = torch.randn(1, 1, 32, 32)
    for training, k in ((more, 5), (on, 3)):
        predictor = Predictor(training.method.predictor, training.header, training.compute)
        probabilities = predictor.probabilities(image, "target")
        assert probabilities.shape[1] == k + 1
        assert probabilities[:, 0].max() == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--class", "nuclei=1"], "no class 'nuclei'"),
        (["--class", "mitochondria=9"], "clusters 1 to 4"),
        (["--class", "mitochondria=1", "--out", "{there}"], "exists already"),
        (["--class", "mitochondria=1", "--out", "mask.docx"], "mask.docx"),
    ],
)
def test_names_that_cannot_be_given_are_refused_before_anything_is_done(
    arguments, words, unlabelled, tmp_path, capsys
):
    list(fit(prepared(unlabelled, clusters=4)))
    (run,) = unlabelled.runs.names()
    unlabelled.close()
    (tmp_path / "there.tif").touch()
    with pytest.raises(SystemExit) as end:
        main(
            [
                "name-clusters",
                str(unlabelled.folder),
                *(text.format(there=tmp_path / "there.tif") for text in arguments),
            ]
        )
    assert end.value.code == 2
    assert words in capsys.readouterr().err
    assert not unlabelled.run(run).cluster_names()
    assert not (unlabelled.run(run).path / "probabilities.zarr").exists()


def test_named_clusters_are_asked_about_where_the_classes_are_in_doubt(unlabelled):
    list(fit(prepared(unlabelled, clusters=4)))
    (run,) = unlabelled.runs.names()
    *_, found = execute(
        PredictJob(project=str(unlabelled.folder), run=run, settings=PredictSettings(device="cpu"))
    )
    count = len(checkpoint.read_header(unlabelled.run(run).checkpoint).classes) - 1
    assert f"'target' is sorted into {count} clusters with run {run}." in found.text
    query = QuerySettings(strategy="entropy", patch=32, count=3, device="cpu")
    job = SuggestJob(project=str(unlabelled.folder), run=run, settings=query)
    unlabelled.predictions.name_clusters(run, "target", {2: "mitochondria"})
    *_, last = execute(job)
    doubt = unlabelled.predictions.of(run, "target").uncertainty[:] / 255
    means = view_as_windows(doubt, (1, 32, 32), (1, 8, 8)).mean((3, 4, 5))
    scores = [region["score"] for region in last.result["regions"]]
    boxes = [Box.parse(region["box"], doubt.shape) for region in last.result["regions"]]
    assert scores == pytest.approx([doubt[box.slices].mean() for box in boxes])
    assert scores[0] == pytest.approx(means.max())
    unlabelled.predictions.name_clusters(run, "target", dict.fromkeys((1, 2, 3, 4), "mitochondria"))
    *_, last = execute(job)
    assert (
        max(region["score"] for region in last.result["regions"]) < 0.02
    )  # nothing but rounding is in doubt
