"""Consistency training: its views, the way back, its losses, and where it works."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import affine_transform, gaussian_filter
from scipy.special import rel_entr
from scipy.stats import spearmanr

from napari_emda.data.augment import Augmentation
from napari_emda.data.sampling import Patches
from napari_emda.data.strong import INVERTING, KEEPING, StrongSet, turn, turn_back
from napari_emda.data.volume import IGNORE
from napari_emda.jobs import TrainJob
from napari_emda.nn.consistency import divergence
from napari_emda.preparation import prepare
from napari_emda.project import Project
from napari_emda.settings import TrainSettings
from napari_emda.train import fit


def smooth(n=4, side=65, sigma=2):
    image = gaussian_filter(np.random.default_rng(0).normal(size=(n, 1, side, side)), (0, 0, sigma, sigma))
    return torch.as_tensor(image / image.std()).float()


def degrees(angle, n=4):
    return torch.full((n,), float(np.deg2rad(angle)))


# -- views and the way back --------------------------------------------------------------------------------------


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_quarter_turns_come_back_exactly(quarters):
    image = smooth()
    turned = turn(image, degrees(90 * quarters))
    assert any(np.allclose(turned, np.rot90(image, k, (2, 3)), atol=1e-4) for k in (quarters, -quarters))
    back, inside = turn_back(turned, degrees(90 * quarters))
    assert inside.float().mean() > 0.9
    torch.testing.assert_close(back[inside.unsqueeze(1)], image[inside.unsqueeze(1)], atol=1e-3, rtol=0)


def test_other_angles_come_back_where_they_stayed_in_the_frame():
    image = smooth(sigma=5)
    image = (image - image.min()) / (image.max() - image.min())  # as probabilities are
    back, inside = turn_back(turn(image, degrees(33)), degrees(33))
    assert float(inside.float().mean()) == pytest.approx(0.798, abs=0.005)
    error = (back - image).abs().squeeze(1)
    assert error[inside].max() < 0.01
    assert error[~inside].max() > 0.3


def test_a_turn_is_that_of_scipy():
    image = smooth(1)
    angle = np.deg2rad(33)
    matrix = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    centre = np.array([32, 32])
    both = [affine_transform(image[0, 0], m, centre - m @ centre, order=1) for m in (matrix, matrix.T)]
    turned = turn(image, degrees(33, 1))[0, 0].numpy()
    disc = np.hypot(*(np.mgrid[:65, :65] - 32)) < 31
    assert min(np.abs(turned - other)[disc].max() for other in both) < 1e-3


@pytest.mark.parametrize("name", KEEPING)
@pytest.mark.parametrize("magnitude", [-1.0, 1.0])
def test_dark_stays_dark_in_the_default_set(name, magnitude):
    image = smooth()
    changed = KEEPING[name](image, torch.full((4, 1, 1, 1), magnitude))
    for before, after in zip(image, changed, strict=True):
        assert spearmanr(before.flatten(), after.flatten()).statistic > 0.7


def test_the_inverting_set_turns_dark_into_bright():
    image, full = smooth(), torch.ones(4, 1, 1, 1)
    for change in INVERTING.values():
        assert spearmanr(image.flatten(), change(image, full).flatten()).statistic < 0


def test_all_views_together_keep_polarity_and_follow_the_seed():
    image = smooth(64, 33)
    changed, angle = StrongSet(2, 10)(image, Augmentation("none", 1))
    again, _ = StrongSet(2, 10)(image, Augmentation("none", 1))
    assert torch.equal(changed, again)
    for i in range(64):
        straight = turn_back(changed[i : i + 1], angle[i : i + 1])
        before, after = (t[0, 0][straight[1][0]] for t in (image[i : i + 1], straight[0]))
        assert spearmanr(before, after).statistic > 0.7
    assert 5 < (angle != 0).sum() < 40


def test_the_weak_set_moves_labels_as_the_image_and_only_a_little():
    columns = torch.arange(48.0).expand(64, 1, 48, 48).contiguous()
    moved = Augmentation("none", 0).jittered(Patches(columns, columns[:, 0].long(), columns))
    valid = moved.labels != IGNORE
    assert (moved.image[:, 0] - moved.labels).abs()[valid].max() <= 0.51
    slopes = (moved.image[:, 0, 24, 26] - moved.image[:, 0, 24, 22]) / 4
    assert 0.3 < (slopes < 0).float().mean() < 0.7  # flipped
    assert slopes.abs().min() > np.cos(np.pi / 12) / 1.05 - 1e-3
    assert slopes.abs().max() < 1 / 0.95 + 1e-3


def test_a_share_of_the_patches_keeps_its_pixels():
    image = smooth(64, 33)
    moved = Augmentation("none", 0).jittered(Patches(image, (100 * image[:, 0]).long(), image), 0.5)
    kept = [
        any(torch.equal(now, same) for same in (before, before.flip(-1)))
        for now, before in zip(moved.image, image, strict=True)
    ]
    assert 20 < sum(kept) < 44
    for one, now, labels in zip(kept, moved.image, moved.labels, strict=True):
        assert torch.equal(labels, (100 * now[0]).long()) == one


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


@pytest.mark.parametrize("consistency", ["kl", "iid"])
def test_without_labels_only_agreement_teaches(consistency, source, target, make_training, tmp_path, same_weights):
    """Bitwise the weights of a training that knows no labelled branch at all."""
    bare = [replace(source, labels=None), target]
    whole, unsupervised = (
        make_training(bare, tmp_path / f, "uda", {"consistency": consistency}, steps=2, weight_decay=0) for f in "ab"
    )
    only = unsupervised.method.losses
    unsupervised.method.losses = lambda batch, progress: {"consistency": only(batch, progress)["consistency"]}
    for step in range(2):
        losses = whole.step(whole.batch(step), step)
        unsupervised.step(unsupervised.batch(step), step)
        assert float(losses["segmentation"]) == 0
        assert float(losses["consistency"]) != 0
    assert same_weights(whole.method, unsupervised.method)


@pytest.mark.parametrize("consistency", ["kl", "iid"])
def test_the_weight_is_that_of_the_agreement(consistency, source, target, make_training, tmp_path):
    values = []
    for weight in (0.0, 1.0, 2.0):
        settings = {"consistency": consistency, "weight": weight}
        training = make_training([source, target], tmp_path / str(weight), "uda", settings)
        torch.manual_seed(0)
        values.append(float(training.method.losses(training.batch(0), 0.0)["consistency"].detach()))
    assert values[0] == 0
    assert values[2] == pytest.approx(2 * values[1], rel=1e-5)


def test_the_unlabelled_are_the_target_or_else_patches_from_anywhere(source, target, make_training, tmp_path):
    for volumes, domain in (([source, target], "target"), ([source], "source")):
        training = make_training(volumes, tmp_path / domain, "uda")
        seen, batch = [], training.batch(0)
        training.method._disagreement = lambda image, seen=seen: seen.append(image) or image.sum()
        training.method.losses(batch, 0.0)
        half = 1 if domain == "source" else 0  # the second of the two source patches lies anywhere
        expected = batch[domain].clean[half:]
        assert torch.equal(seen[0], expected)
        assert training.header.prediction_domain == domain
        assert training.measures_target() == (domain == "target")


def test_one_volume_with_one_annotated_section_is_enough(phantom_files, phantoms, tmp_path):
    with Project.create(tmp_path / "project", ("background", "mitochondria")) as project:
        labels = phantoms["source"][1]
        sparse = np.zeros_like(labels)
        sparse[0] = labels[0] + 1
        project.add_volume(phantom_files["source", "image"], "source", name="stack")
        project.annotations("stack", create=True)[0] = sparse[0]
        settings = TrainSettings(steps=2, patch=32, base=8, batch=2, device="cpu", validations=0, report_every=1)
        job = TrainJob(project=str(project.folder), method="uda", settings=settings)
        training, volumes = prepare(project, job, tmp_path / "run")
        (tmp_path / "run").mkdir()
        assert list(volumes) == ["stack"]
        list(fit(training))
        assert training.path.exists()
