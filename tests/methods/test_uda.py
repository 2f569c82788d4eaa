"""Consistency training: its losses against calculations by hand, and where it works."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import affine_transform
from scipy.special import rel_entr

from napari_emda.data.volume import IGNORE
from napari_emda.errors import DataError
from napari_emda.jobs.prepare_training import prepare
from napari_emda.methods.base import DataSummary, methods
from napari_emda.nn.losses import divergence
from napari_emda.nn.networks.unet import UNet
from napari_emda.nn.normalisation import norms
from napari_emda.project.job_files import TrainJob
from napari_emda.project.project import Project
from napari_emda.project.run_folder import RunFolder
from napari_emda.sampling.augmentation import Augmentation
from napari_emda.sampling.randaugment import RandAugment
from napari_emda.sampling.sampler import Patches
from napari_emda.settings.training import TrainSettings
from napari_emda.training.loop import fit
from tests.sampling.test_randaugment import smooth

# -- agreement ---------------------------------------------------------------------------------------------------


def test_divergence_is_that_of_scipy_and_teaches_one_side(noise):
    p, q = (noise.dirichlet(np.ones(3), (2, 5, 7)).transpose(0, 3, 1, 2) for _ in range(2))
    valid = noise.random((2, 5, 7)) < 0.6
    log_p, log_q = (torch.as_tensor(np.log(d)).float().requires_grad_() for d in (p, q))
    loss = divergence(log_p, log_q, torch.as_tensor(valid))
    assert float(loss.detach()) == pytest.approx(rel_entr(p, q).sum(1)[valid].mean(), rel=1e-4)
    loss.backward()
    assert log_p.grad is None
    assert log_q.grad.abs().sum() > 0
    with torch.no_grad():
        assert float(divergence(log_p, log_p, torch.as_tensor(valid))) == 0
        assert float(divergence(log_p, log_q, torch.zeros(2, 5, 7, dtype=torch.bool))) == 0


def without_labels(batch):
    return {
        domain: Patches(patches.image, torch.full_like(patches.labels, IGNORE), patches.clean)
        for domain, patches in batch.items()
    }


@pytest.mark.parametrize("consistency", ["kl", "iid"])
def test_without_labels_only_agreement_teaches(
    consistency, source, target, make_training, tmp_path, same_weights
):
    """Bitwise the weights of a training that knows no labelled branch at all."""
    whole, unsupervised = (
        make_training(
            [source, target],
            tmp_path / folder,
            "uda",
            {"consistency": consistency},
            steps=2,
            weight_decay=0,
        )
        for folder in "ab"
    )
    only = unsupervised.method.losses
    unsupervised.method.losses = lambda batch, progress: {
        "consistency": only(batch, progress)["consistency"]
    }
    for step in (1, 2):  # at step 0 the weight of iid is nothing yet
        losses = whole.step(without_labels(whole.batch(step)), step)
        unsupervised.step(without_labels(unsupervised.batch(step)), step)
        assert float(losses["segmentation"]) == 0
        assert float(losses["consistency"]) != 0
    assert same_weights(whole.method, unsupervised.method)


ANGLES = (0.0, 0.6, 2.2, 4.0)


def by_scipy(maps, angle):
    """Maps B x C x H x W undone by a rotation each, and where nothing of them comes from beyond the frame."""
    centre = (np.array(maps.shape[2:]) - 1) / 2
    back, inside = [], []
    for each, radians in zip(maps, angle, strict=True):
        there = np.array([[np.cos(radians), np.sin(radians)], [-np.sin(radians), np.cos(radians)]])
        home = [affine_transform(m, there, centre - there @ centre, order=1) for m in each]
        frame = affine_transform(np.ones_like(each[0]), there.T, centre - there.T @ centre, order=1)
        inside.append(affine_transform(frame, there, centre - there @ centre, order=1) > 1 - 1e-3)
        back.append(np.stack(home))
    return np.stack(back), np.stack(inside)


def agreement_by_hand(p, q, inside, consistency, balance):
    """The loss of pairs of probabilities B x C x H x W, from sums over pixels as they are written."""
    pairs = [(p[b, :, y, x], q[b, :, y, x]) for b, y, x in np.argwhere(inside)]
    if consistency == "kl":
        return np.mean(
            [rel_entr(one.clip(1e-6), other.clip(1e-6)).sum() for one, other in pairs]
        )  # never infinite
    counts = sum(np.outer(one, other) + np.outer(other, one) for one, other in pairs)
    table = counts / counts.sum()
    rows, columns = table.sum(1, keepdims=True), table.sum(0, keepdims=True)
    return -(table * (np.log(table) - balance * np.log(rows) - balance * np.log(columns))).sum()


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize(
    "settings", [{}, {"consistency": "iid"}, {"consistency": "iid", "balance": 1.0}]
)
def test_the_agreement_is_that_of_a_calculation_by_hand(settings, classes):
    """The answer to the changed copy is brought back and held against that to the patch, where both are known."""
    torch.manual_seed(0)
    cls = methods["uda"]
    settings = cls.Settings.parse(settings)
    method = cls(
        settings,
        UNet(classes, UNet.Settings(base_channels=8, dropout=0)),
        DataSummary({"target": np.zeros(513)}),
    ).train()
    method.network.head.weight.data *= 2  # sure answers have something to tell of each other
    image, changed, angle = smooth(4, 32), smooth(4, 33)[..., :32, :32], torch.tensor(ANGLES)
    method.strong = lambda *_: (changed, angle)
    answers = []
    method.network.register_forward_hook(lambda module, given, answer: answers.append(answer))
    source = [layer.running_mean[0].clone() for layer in norms(method.network)]
    loss = method._disagreement(image)
    for answer in answers:
        if answer.requires_grad:
            answer.retain_grad()
    loss.backward()
    copy, patch = answers[:2]
    p, q = (answer.detach().double().softmax(1).numpy() for answer in (patch, copy))
    back, inside = by_scipy(q, ANGLES)
    expected = agreement_by_hand(p, back, inside, settings.consistency, settings.balance)
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-3)
    assert copy.grad.abs().sum() > 0
    assert (
        copy.grad[1, :, 0, 0].abs().sum() == 0
    )  # a corner of the turned copy is beyond the frame of the patch
    if settings.consistency == "kl":
        assert not patch.requires_grad
    else:
        assert patch.grad.abs().sum() > 0
    for layer, before in zip(norms(method.network), source, strict=True):
        assert torch.equal(
            layer.running_mean[0], before
        )  # only the statistics of the unlabelled domain follow


def test_the_settings_are_those_of_the_strong_set():
    cls = methods["uda"]
    given = cls.Settings(changes=4, magnitude=7.5, inverting=True)
    assert cls(given, UNet(2, UNet.Settings(base_channels=8)), DataSummary()).strong == RandAugment(
        4, 7.5, True
    )
    assert (
        cls(cls.Settings(), UNet(2, UNet.Settings(base_channels=8)), DataSummary()).strong.inverting
        is False
    )
    assert "dark membranes are the signal" in cls.Settings.model_fields["inverting"].description


def test_what_is_labelled_is_learnt_with_dice_alone(source, make_training, tmp_path):
    sparse = replace(
        source,
        labels=1 + source.labels * (np.arange(4) == 0)[:, None, None],
        labels_zero="unannotated",
    )
    sparse.labels[1:] = 0
    training = make_training([sparse], tmp_path / "run", "uda", network_settings={"dropout": 0})
    batch = training.batch(0)
    loss = float(training.method.losses(batch, 0.0)["segmentation"].detach())
    labels, known = batch["source"].labels.numpy(), batch["source"].labels.numpy() != IGNORE
    p = (
        training.method.network(batch["source"].image)
        .detach()
        .double()
        .softmax(1)[:, 1]
        .numpy()[known]
    )
    y = labels[known] == 1
    assert 0 < known.mean() < 1
    assert loss == pytest.approx(1 - (2 * p[y].sum() + 1) / ((p * p).sum() + y.sum() + 1), rel=1e-4)


def test_patches_are_moved_weakly_and_changed_only_where_that_is_asked_for(
    source, make_training, tmp_path
):
    method = make_training([source], tmp_path / "run", "uda").method
    image = smooth(64, 32)
    given = {"source": Patches(image, torch.zeros(64, 32, 32, dtype=torch.long), image)}
    none, weak, strong = (
        method.prepare(given, Augmentation(s, 1), 0.0)["source"] for s in ("none", "weak", "strong")
    )
    assert none is given["source"]
    alike = [
        any(np.array_equal(now, np.rot90(way, k)) for way in (before, before.T) for k in range(4))
        for now, before in zip(weak.image[:, 0].numpy(), image[:, 0].numpy(), strict=True)
    ]
    assert 40 < sum(alike) < 60  # a quarter is scaled and turned, all are one of eight symmetries
    assert torch.equal(weak.image, weak.clean)
    assert torch.equal(
        strong.clean, weak.clean
    )  # agreement is asked for on patches that are moved alone
    changed = [
        not torch.equal(now, clean) for now, clean in zip(strong.image, strong.clean, strict=True)
    ]
    assert 16 < sum(changed) < 48


@pytest.mark.parametrize(("consistency", "rising"), [("kl", (1, 1, 1, 1)), ("iid", (0, 0.5, 1, 1))])
def test_the_weight_is_that_of_the_agreement_and_rises_where_empty_answers_would_please(
    consistency, rising, source, target, make_training, tmp_path
):
    def agreement(weight, progress):
        torch.manual_seed(0)
        settings = {"consistency": consistency, "weight": weight}
        training = make_training(
            [source, target], tmp_path / f"{weight} {progress}", "uda", settings
        )
        torch.manual_seed(0)
        return float(training.method.losses(training.batch(0), progress)["consistency"].detach())

    whole = agreement(1.0, 1.0)
    assert abs(whole) > 1e-3
    assert [agreement(1.0, at) / whole for at in (0.0, 0.125, 0.25, 0.6)] == pytest.approx(
        rising, rel=1e-5
    )
    assert [agreement(w, 1.0) / whole for w in (0.0, 2.0)] == pytest.approx([0, 2], rel=1e-5)


def test_the_unlabelled_are_the_target_or_else_patches_from_anywhere(
    source, target, make_training, tmp_path
):
    for volumes, domain in (([source, target], "target"), ([source], "source")):
        training = make_training(volumes, tmp_path / domain, "uda")
        seen, batch = [], training.batch(0)
        training.method._disagreement = lambda image, seen=seen: seen.append(image) or image.sum()
        training.method.losses(batch, 0.0)
        labelled = 2 if domain == "source" else 0  # the source's first two patches lie on labels
        expected = batch[domain].clean[labelled:]
        assert len(batch[domain].clean) == labelled + 2
        assert torch.equal(seen[0], expected)
        assert training.header.prediction_domain == domain
        assert training.measures_target() == (domain == "target")


def test_sparse_labels_of_many_classes_are_taken_and_others_refused(
    phantom_files, phantoms, tmp_path
):
    """Where 0 means not annotated, 1 is the background, and class k is k + 1."""
    labels = np.zeros_like(phantoms["source"][1])
    labels[0] = 1 + phantoms["source"][1][0]
    labels[0, :20, :20] = 3

    def stack(*classes):
        with Project.create(tmp_path / str(len(classes)), classes) as project:
            path, image = project.volumes.store("labels", labels), phantom_files["source", "image"]
            project.volumes.add(
                image, "source", labels=path, labels_zero="unannotated", name="stack"
            )
            return project.volumes.open("stack")

    ids = stack("background", "a", "b").class_ids[:, :, :]
    assert np.array_equal(ids[0] + 1, labels[0])
    assert (ids[1:] == IGNORE).all()
    with pytest.raises(
        DataError, match="value 3, but there are 2 classes, and 0 means not annotated"
    ):
        stack("background", "a")


def test_one_volume_with_one_annotated_section_is_enough(phantom_files, phantoms, tmp_path):
    with Project.create(tmp_path / "project", ("background", "mitochondria")) as project:
        labels = phantoms["source"][1]
        sparse = np.zeros_like(labels)
        sparse[0] = labels[0] + 1
        project.volumes.add(phantom_files["source", "image"], "source", name="stack")
        project.annotations.require("stack")[0] = sparse[0]
        settings = TrainSettings(
            steps=2, patch=32, batch=2, device="cpu", validations=0, report_every=1
        )
        job = TrainJob(
            project=str(project.folder),
            method="uda",
            settings=settings,
            network_settings={"base_channels": 8},
        )
        training, volumes = prepare(project, job, RunFolder(tmp_path / "run"))
        (tmp_path / "run").mkdir()
        assert list(volumes) == ["stack"]
        list(fit(training))
        assert training.path.exists()
