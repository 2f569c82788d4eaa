"""Consistency training: losses against calculations by hand, augmentation and data it takes."""

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
from napari_emda.sampling.patches import Patches
from napari_emda.sampling.randaugment import RandAugment
from napari_emda.settings.training import TrainSettings
from napari_emda.training.loop import fit
from tests.sampling.test_randaugment import smooth

# -- consistency -----------------------------------------------------------------------------------


def test_divergence_is_that_of_scipy_and_has_a_gradient_for_one_side(noise):
    p, q = (noise.dirichlet(np.ones(3), (2, 5, 7)).transpose(0, 3, 1, 2) for _ in range(2))
    valid = noise.random((2, 5, 7)) < 0.6
    log_p, log_q = (torch.as_tensor(np.log(x)).float().requires_grad_() for x in (p, q))
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
def test_without_labels_only_consistency_is_trained(
    consistency, source, target, make_training, tmp_path, same_weights
):
    """The weights are bitwise those of a training without the supervised loss."""
    settings = {"consistency": consistency}
    complete, unsupervised = (
        make_training([source, target], tmp_path / folder, "uda", settings, steps=2, weight_decay=0)
        for folder in "ab"
    )
    losses = unsupervised.method.losses
    unsupervised.method.losses = lambda batch, progress: {
        "consistency": losses(batch, progress)["consistency"]
    }
    for step in (1, 2):  # at step 0 the weight of iid is still 0
        reported = complete.step(without_labels(complete.batch(step)), step)
        unsupervised.step(without_labels(unsupervised.batch(step)), step)
        assert float(reported["segmentation"]) == 0
        assert float(reported["consistency"]) != 0
    assert same_weights(complete.method, unsupervised.method)


ANGLES = (0.0, 0.6, 2.2, 4.0)


def by_scipy(maps, angles):
    """Maps B x C x H x W rotated back, and the pixels that depend on nothing outside the frame."""
    centre = (np.array(maps.shape[2:]) - 1) / 2
    results = []
    inside = []
    for patch, angle in zip(maps, angles, strict=True):
        back = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        shift = centre - back @ centre
        results.append([affine_transform(channel, back, shift, order=1) for channel in patch])
        frame = affine_transform(np.ones_like(patch[0]), back.T, centre - back.T @ centre, order=1)
        inside.append(affine_transform(frame, back, shift, order=1) > 1 - 1e-3)
    return np.array(results), np.array(inside)


def consistency_by_hand(p, q, inside, consistency, balance):
    """The loss of probabilities B x C x H x W by the sums of the definition."""
    pairs = [(p[b, :, y, x], q[b, :, y, x]) for b, y, x in np.argwhere(inside)]
    if consistency == "kl":
        # Probabilities are limited, so that no divergence is infinite.
        return np.mean([rel_entr(a.clip(1e-6), b.clip(1e-6)).sum() for a, b in pairs])
    counts = sum(np.outer(a, b) + np.outer(b, a) for a, b in pairs)
    joint = counts / counts.sum()
    rows = joint.sum(1, keepdims=True)
    columns = joint.sum(0, keepdims=True)
    return -(joint * (np.log(joint) - balance * np.log(rows) - balance * np.log(columns))).sum()


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize(
    "settings", [{}, {"consistency": "iid"}, {"consistency": "iid", "balance": 1.0}]
)
def test_the_consistency_loss_is_that_of_a_calculation_by_hand(settings, classes):
    torch.manual_seed(0)
    cls = methods["uda"]
    settings = cls.Settings.parse(settings)
    network = UNet(classes, UNet.Settings(base_channels=8, dropout=0))
    method = cls(settings, network, DataSummary({"target": np.zeros(513)})).train()
    network.head.weight.data *= 2  # more confident predictions have more information
    image = smooth(4, 32)
    changed = smooth(4, 33)[..., :32, :32]
    method.strong = lambda *_: (changed, torch.tensor(ANGLES))
    logits = []
    network.register_forward_hook(lambda module, inputs, output: logits.append(output))
    source_means = [layer.running_mean[0].clone() for layer in norms(network)]
    loss = method._disagreement(image)
    for output in logits:
        if output.requires_grad:
            output.retain_grad()
    loss.backward()
    of_copy, of_patch = logits[:2]
    p, q = (output.detach().double().softmax(1).numpy() for output in (of_patch, of_copy))
    back, inside = by_scipy(q, ANGLES)
    expected = consistency_by_hand(p, back, inside, settings.consistency, settings.balance)
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-3)
    assert of_copy.grad.abs().sum() > 0
    # A corner of the rotated copy lies outside the frame of the patch.
    assert of_copy.grad[1, :, 0, 0].abs().sum() == 0
    if settings.consistency == "kl":
        assert not of_patch.requires_grad
    else:
        assert of_patch.grad.abs().sum() > 0
    # Only statistics of the unlabelled domain are updated.
    for layer, before in zip(norms(network), source_means, strict=True):
        assert torch.equal(layer.running_mean[0], before)


def test_the_settings_are_those_of_randaugment():
    cls = methods["uda"]
    network = UNet(2, UNet.Settings(base_channels=8))
    method = cls(cls.Settings(changes=4, magnitude=7.5, inverting=True), network, DataSummary())
    assert method.strong == RandAugment(4, 7.5, True)
    assert cls(cls.Settings(), network, DataSummary()).strong.inverting is False
    assert "dark membranes are the signal" in cls.Settings.model_fields["inverting"].description


def test_the_supervised_loss_is_dice(source, make_training, tmp_path):
    # Only the first section is labelled; 0 means not annotated.
    labels = np.zeros_like(source.labels)
    labels[0] = 1 + source.labels[0]
    sparse = replace(source, labels=labels, labels_zero="unannotated")
    training = make_training([sparse], tmp_path / "run", "uda", network_settings={"dropout": 0})
    patches = training.batch(0)["source"]
    loss = float(training.method.losses({"source": patches}, 0.0)["segmentation"].detach())
    labelled = patches.labels.numpy() != IGNORE
    probabilities = training.method.network(patches.image).detach().double().softmax(1)
    p = probabilities[:, 1].numpy()[labelled]
    y = patches.labels.numpy()[labelled] == 1
    assert 0 < labelled.mean() < 1
    assert loss == pytest.approx(1 - (2 * p[y].sum() + 1) / ((p * p).sum() + y.sum() + 1), rel=1e-4)


def is_symmetric_copy(image, other):
    """Whether an image is one of the eight symmetries of another."""
    return any(np.array_equal(image, np.rot90(x, k)) for x in (other, other.T) for k in range(4))


def test_patches_are_transformed_weakly_and_changed_only_with_strong_augmentation(
    source, make_training, tmp_path
):
    method = make_training([source], tmp_path / "run", "uda").method
    image = smooth(64, 32)
    batch = {"source": Patches(image, torch.zeros(64, 32, 32, dtype=torch.long), image)}
    none, weak, strong = (
        method.prepare(batch, Augmentation(s, 1), 0.0)["source"] for s in ("none", "weak", "strong")
    )
    assert none is batch["source"]
    # A quarter is also scaled and rotated.
    symmetric = sum(map(is_symmetric_copy, weak.image[:, 0].numpy(), image[:, 0].numpy()))
    assert 40 < symmetric < 60
    assert torch.equal(weak.image, weak.clean)
    # The consistency loss uses clean patches, without changes of contrast, blur and noise.
    assert torch.equal(strong.clean, weak.clean)
    changed = (strong.image != strong.clean).flatten(1).any(1)
    assert 16 < changed.sum() < 48


@pytest.mark.parametrize(("consistency", "rising"), [("kl", (1, 1, 1, 1)), ("iid", (0, 0.5, 1, 1))])
def test_the_consistency_loss_is_weighted_and_with_iid_ramped_up(
    consistency, rising, source, target, make_training, tmp_path
):
    def loss(weight, progress):
        torch.manual_seed(0)
        settings = {"consistency": consistency, "weight": weight}
        training = make_training(
            [source, target], tmp_path / f"{weight} {progress}", "uda", settings
        )
        torch.manual_seed(0)
        return float(training.method.losses(training.batch(0), progress)["consistency"].detach())

    full = loss(1.0, 1.0)
    assert abs(full) > 1e-3
    by_progress = [loss(1.0, progress) / full for progress in (0.0, 0.125, 0.25, 0.6)]
    assert by_progress == pytest.approx(rising, rel=1e-5)
    by_weight = [loss(weight, 1.0) / full for weight in (0.0, 2.0)]
    assert by_weight == pytest.approx([0, 2], rel=1e-5)


def test_unlabelled_patches_come_from_the_target_or_from_anywhere_in_the_source(
    source, target, make_training, tmp_path
):
    for volumes, domain in (([source, target], "target"), ([source], "source")):
        training = make_training(volumes, tmp_path / domain, "uda")
        batch = training.batch(0)
        inputs = []
        training.method._disagreement = lambda image, to=inputs: to.append(image) or image.sum()
        training.method.losses(batch, 0.0)
        # The first two patches of the source lie around labels.
        around_labels = 2 if domain == "source" else 0
        assert len(batch[domain].clean) == around_labels + 2
        assert torch.equal(inputs[0], batch[domain].clean[around_labels:])
        assert training.header.prediction_domain == domain
        assert training.measures_target() == (domain == "target")


def test_sparse_labels_of_several_classes_are_accepted_and_too_large_values_refused(
    phantom_files, phantoms, tmp_path
):
    """If 0 means not annotated, 1 is the background, and class k is k + 1."""
    labels = np.zeros_like(phantoms["source"][1])
    labels[0] = 1 + phantoms["source"][1][0]
    labels[0, :20, :20] = 3

    def stack(*classes):
        with Project.create(tmp_path / str(len(classes)), classes) as project:
            path = project.volumes.store("labels", labels)
            image = phantom_files["source", "image"]
            project.volumes.add(
                image, "source", labels=path, labels_zero="unannotated", name="stack"
            )
            return project.volumes.open("stack")

    ids = stack("background", "a", "b").class_ids[:, :, :]
    assert np.array_equal(ids[0] + 1, labels[0])
    assert (ids[1:] == IGNORE).all()
    message = "value 3, but there are 2 classes, and 0 means not annotated"
    with pytest.raises(DataError, match=message):
        stack("background", "a")


def test_one_volume_with_one_annotated_section_is_enough(phantom_files, phantoms, tmp_path):
    with Project.create(tmp_path / "project", ("background", "mitochondria")) as project:
        project.volumes.add(phantom_files["source", "image"], "source", name="stack")
        project.annotations.require("stack")[0] = phantoms["source"][1][0] + 1
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
