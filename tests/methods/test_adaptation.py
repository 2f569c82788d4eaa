"""What is particular to each method: histogram matching, Y-Net, restoring, DAMT-Net, fine-tuning."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.exposure import match_histograms
from skimage.metrics import peak_signal_noise_ratio

from napari_emda.data.intensity import QUANTILES
from napari_emda.data.volume import IGNORE
from napari_emda.errors import JobError
from napari_emda.jobs.execute import execute
from napari_emda.methods.base import DataSummary, methods
from napari_emda.methods.denoising import corrupt
from napari_emda.nn.histogram import HistogramMatch
from napari_emda.nn.networks.unet import UNet
from napari_emda.project.job_files import TrainJob
from napari_emda.sampling.augmentation import Augmentation
from napari_emda.sampling.sampler import Patches
from napari_emda.settings.training import TrainSettings


def build(name, *, summary=None, dropout=0.0, **settings):
    torch.manual_seed(0)
    cls = methods[name]
    return cls(
        cls.Settings.parse(settings),
        UNet(2, UNet.Settings(base_channels=8, dropout=dropout)),
        summary or DataSummary(),
    )


def batch(n=2, side=32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(n, 1, side, side, generator=generator)
    labels = (image[:, 0] > 0.5).long()
    unknown = torch.full_like(labels, IGNORE)
    other = torch.randn(n, 1, side, side, generator=generator) * 2 + 1
    return {"source": Patches(image, labels, image), "target": Patches(other, unknown, other)}


# -- histogram matching ------------------------------------------------------------------------------------------


def quantiles(values):
    return np.quantile(values, np.linspace(0, 1, QUANTILES))


def looks():
    """Two images with grey values 0 to 255 of very different histograms."""
    rng = np.random.default_rng(0)
    source, target = rng.random((2, 200, 200))
    return 255 * source**2, 20 + 200 * np.where(
        rng.random((200, 200)) < 0.3, target**0.5, target**1.5
    )


def matched(match, image):
    return match(torch.as_tensor(image, dtype=torch.float32)).numpy()


def test_matching_agrees_with_scikit_image():
    source, target = looks()
    ours = matched(HistogramMatch(quantiles(source), quantiles(target)), source)
    assert np.abs(ours - match_histograms(source, target)).max() <= 1
    assert np.abs(source - match_histograms(source, target)).max() > 20


def test_matching_to_itself_changes_nothing_and_matching_twice_no_more_than_once():
    source, target = looks()
    itself = HistogramMatch(quantiles(source), quantiles(source))
    np.testing.assert_allclose(matched(itself, source), source, atol=0.05)
    once = matched(HistogramMatch(quantiles(source), quantiles(target)), source)
    twice = matched(HistogramMatch(quantiles(once), quantiles(target)), once)
    np.testing.assert_allclose(twice, once, atol=1)


def test_matching_keeps_the_order_also_beyond_the_extremes():
    source, target = looks()
    match = HistogramMatch(quantiles(source), quantiles(target))
    greys = np.linspace(-300, 600, 5000)
    mapped = matched(match, greys)
    assert (np.diff(mapped) >= 0).all()
    below = mapped[greys < source.min()]
    np.testing.assert_allclose(np.diff(below), np.diff(greys[greys < source.min()]), atol=1e-2)


def test_a_single_grey_value_is_mapped_without_dividing_by_zero():
    match = HistogramMatch(np.zeros(QUANTILES), quantiles(looks()[1]))
    assert np.isfinite(matched(match, [0.0])).all()
    flat = matched(HistogramMatch(quantiles(looks()[0]), np.full(QUANTILES, 7.0)), [50.0, 90.0])
    np.testing.assert_allclose(flat, 7, atol=1e-5)


def test_equal_greys_stay_equal_and_get_the_mean_of_their_share_of_the_target():
    source, target = looks()
    coarse = np.round(source / 40) * 40
    ours = matched(HistogramMatch(quantiles(coarse), quantiles(target)), coarse)
    order = np.sort(target.ravel())
    for grey in np.unique(coarse):
        below, here = (coarse < grey).sum(), (coarse == grey).sum()
        assert len(np.unique(ours[coarse == grey])) == 1
        assert ours[coarse == grey][0] == pytest.approx(order[below : below + here].mean(), abs=4)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_the_asked_share_of_source_patches_takes_the_targets_greys(share):
    summary = DataSummary(
        {"source": np.linspace(-2, 2, QUANTILES), "target": np.linspace(10, 14, QUANTILES)}
    )
    method = build("histogram", summary=summary, matched=share)
    prepared = method.prepare(batch(200), Augmentation("none", 0), 0.0)
    taken = (prepared["source"].image.mean((1, 2, 3)) > 5).float().mean()
    assert taken == pytest.approx(share, abs=0.1)
    assert torch.equal(prepared["source"].image, prepared["source"].clean)
    assert torch.equal(prepared["target"].image, batch(200)["target"].image)


def test_padding_keeps_its_grey():
    source, target = looks()
    match = HistogramMatch(quantiles(source), quantiles(target), padding=[-40.0])
    image = torch.as_tensor(source, dtype=torch.float32)
    image[:50] = -40
    out = match(image)
    assert (out[:50] == -40).all()
    assert torch.equal(out[50:], HistogramMatch(quantiles(source), quantiles(target))(image[50:]))


def test_the_padding_of_a_volume_is_known_to_the_method(make_training, source, target, tmp_path):
    image = source.image.copy()
    image[:, 48:] = 0
    training = make_training(
        [replace(source, image=image), target], tmp_path / "run", "histogram", {"matched": 1}
    )
    drawn = training.sampler.batch(0)["source"].image
    grey = training.sampler.padding("source")
    assert len(grey) == 1
    padded = drawn == grey[0]
    assert 0 < padded.float().mean() < 1
    prepared = training.method.match(drawn)
    assert torch.equal(prepared[padded], drawn[padded])
    assert not torch.equal(prepared[~padded], drawn[~padded])
    assert training.sampler.padding("target") == ()


# -- Y-Net -------------------------------------------------------------------------------------------------------


def test_without_its_bottleneck_the_reconstruction_is_blind():
    ynet = build("ynet").eval()
    with torch.no_grad():
        drawn = []
        for seed in (0, 1):
            maps = ynet.network.encode(batch(seed=seed)["source"].image)
            assert ynet.reconstruction(maps).std() > 1e-3
            drawn.append(ynet.reconstruction([*maps[:-1], torch.zeros_like(maps[-1])]))
    assert torch.equal(*drawn)


def test_the_segmentation_needs_no_reconstruction_decoder():
    ynet, x = build("ynet").eval(), batch()["target"].image
    with torch.no_grad():
        before = ynet.predictor(x)
        del ynet.reconstruction
        assert torch.equal(ynet.predictor(x), before)


def test_the_reconstruction_teaches_the_encoder_and_not_the_segmentation_decoder():
    ynet = build("ynet")
    losses = ynet.losses(batch(), 0.0)
    (losses["source_reconstruction"] + losses["target_reconstruction"]).backward()
    assert all(
        p.grad is None
        for p in (*ynet.network.decoder.parameters(), *ynet.network.head.parameters())
    )
    assert all(
        p.grad is not None
        for p in (*ynet.network.encoder.parameters(), *ynet.reconstruction.parameters())
    )


def test_the_weight_of_the_reconstruction_falls_along_a_cosine():
    def loss(progress):
        ynet = build("ynet", reconstruction=0.4, reconstruction_end=0.1)
        return float(ynet.losses(batch(), progress)["target_reconstruction"].detach())

    assert loss(0.5) / loss(0.0) == pytest.approx(0.25 / 0.4, rel=1e-5)
    assert loss(1.0) / loss(0.0) == pytest.approx(0.1 / 0.4, rel=1e-5)


def test_the_goal_of_the_reconstruction_is_the_clean_patch_whatever_its_gain():
    def loss(clean):
        given = batch()
        given["target"] = Patches(given["target"].image, given["target"].labels, clean)
        return float(build("ynet").losses(given, 0.0)["target_reconstruction"].detach())

    clean = batch(seed=5)["target"].image
    assert loss(clean) == pytest.approx(loss(7 * clean - 3), rel=1e-4)
    assert loss(clean) != pytest.approx(loss(-clean), rel=1e-4)


def test_with_annotations_a_second_stage_learns_from_both_volumes_labels():
    ynet, base = (
        build("ynet", summary=DataSummary(annotated=True), second_stage=0.4, fine_rate=0.2),
        build("source_only"),
    )
    first = {"segmentation", "source_reconstruction", "target_reconstruction"}
    assert set(ynet.losses(batch(), 0.59)) == first
    assert set(ynet.losses(batch(), 0.6)) == {"segmentation", "target_segmentation"}
    assert ynet.learning_rate(0.59) == pytest.approx(base.learning_rate(0.59))
    assert ynet.learning_rate(0.6) == pytest.approx(0.2 * base.learning_rate(0.6))
    assert set(build("ynet", second_stage=0.4).losses(batch(), 0.99)) == first


def test_the_curves_of_the_reconstruction_are_in_decibels():
    ynet = build("ynet", reconstruction=1.0)
    losses = ynet.losses(batch(), 0.0)
    for domain in ("source", "target"):
        error = float(losses[f"{domain}_reconstruction"].detach())
        expected = peak_signal_noise_ratio(np.full(9, np.sqrt(error)), np.zeros(9), data_range=4)
        assert float(ynet.reported[f"{domain}_psnr"]) == pytest.approx(expected, abs=1e-3)


# -- restoring, as a preparation ---------------------------------------------------------------------------------


class Draws(Augmentation):
    """Chooses what `corrupt` does: the factor by which patches are made coarse."""

    def __init__(self, pick):
        super().__init__("none", 0)
        self.pick = pick

    def uniform(self, n, low=0.0, high=1.0):
        return torch.full((n,), high if (low, high) != (0.0, 1.0) else self.pick)


def smooth(n=4, side=64):
    return torch.nn.functional.avg_pool2d(torch.randn(n, 1, side + 8, side + 8), 9, 1)


def test_no_noise_no_blocks_and_a_factor_of_one_leave_a_patch_as_it_is():
    image = smooth()
    assert torch.equal(corrupt(image, Draws(0.1), noise=0, hidden=0), image)


@pytest.mark.parametrize(("pick", "factor"), [(0.5, 2), (0.9, 4)])
def test_coarse_patches_are_those_of_pillow(pick, factor):
    image = smooth(1)
    ours = corrupt(image, Draws(pick), noise=0, hidden=0)
    small = Image.fromarray(image[0, 0].numpy()).resize(
        (64 // factor,) * 2, Image.Resampling.BILINEAR
    )
    np.testing.assert_allclose(
        ours[0, 0], small.resize((64, 64), Image.Resampling.BILINEAR), atol=1e-5
    )
    constant = torch.full((1, 1, 64, 64), 0.7)
    torch.testing.assert_close(corrupt(constant, Draws(pick), noise=0, hidden=0), constant)


def test_the_noise_is_as_strong_as_asked():
    flat = torch.zeros(1, 1, 512, 512)
    assert float(corrupt(flat, Draws(0.1), noise=0.8, hidden=0).std()) == pytest.approx(
        0.8, rel=0.03
    )


def test_a_quarter_of_the_blocks_is_hidden_whole():
    ones = torch.ones(8, 1, 96, 96)
    blocks = (
        corrupt(ones, Draws(0.1), noise=0, hidden=0.25).unfold(2, 8, 8).unfold(3, 8, 8).flatten(4)
    )
    assert ((blocks == 0).all(-1) | (blocks == 1).all(-1)).all()
    assert float((blocks == 0).float().mean()) == pytest.approx(0.25, abs=0.05)


def test_restoring_comes_first_and_copying_is_not_the_answer():
    method, given = build("denoising", pretraining=0.4), batch(8, 64)
    prepared = method.prepare(given, Augmentation("weak", 0), 0.1)
    for domain, patches in prepared.items():
        assert (
            torch.nn.functional.mse_loss(patches.image, patches.clean)
            > 0.1 * given[domain].image.var()
        )
    assert set(method.losses(prepared, 0.1)) == {"source_restoration", "target_restoration"}
    assert set(method.losses(given, 0.4)) == {"segmentation"}


def test_while_segmenting_the_encoder_is_slower():
    method = build("denoising", pretraining=0.4, encoder_rate=0.1)
    assert method.learning_rate(0.2, "encoder") == method.learning_rate(0.2, "rest")
    assert method.learning_rate(0.7, "encoder") == pytest.approx(
        0.1 * method.learning_rate(0.7, "rest")
    )
    assert set(map(id, method.parameter_groups()["encoder"])) == set(
        map(id, method.network.encoder.parameters())
    )


# -- Attention Y-Net ---------------------------------------------------------------------------------------------


def test_attention_ynet_goes_through_three_stages():
    method = build("attention_ynet", first_stage=0.2, second_stage=0.3, segmentation=0.02)
    both = {"source_reconstruction", "target_reconstruction"}
    stages = {p: set(method.losses(batch(), p)) for p in (0.0, 0.19, 0.21, 0.49, 0.51, 0.99)}
    assert stages[0.0] == stages[0.19] == both | {"segmentation"}
    assert stages[0.21] == stages[0.49] == both
    assert stages[0.51] == stages[0.99] == {"segmentation"}
    weighed = [float(method.losses(batch(), p)["segmentation"].detach()) for p in (0.0, 0.6)]
    assert weighed[0] == pytest.approx(0.02 * weighed[1], rel=1e-4)
    assert method.learning_rate(0.6, "shared") == 0
    assert method.learning_rate(0.6, "segments") > 0


# -- DAMT-Net ----------------------------------------------------------------------------------------------------


def test_critics_and_network_of_damt_do_not_learn_from_each_others_losses():
    method = build("damt")
    critics = [*method.label_critic.parameters(), *method.feature_critic.parameters()]
    fooled = torch.autograd.grad(
        method.losses(batch(), 0.5)["adversarial"], critics, allow_unused=True
    )
    assert all(gradient is None for gradient in fooled)
    network = list(method.network.parameters())
    told = torch.autograd.grad(method.losses(batch(), 0.5)["critics"], network, allow_unused=True)
    assert all(gradient is None for gradient in told)
    assert all(parameter.requires_grad for parameter in critics)


def test_fooling_the_critics_of_damt_changes_what_the_target_gets():
    method = build("damt")
    method.losses(batch(), 0.5)["adversarial"].backward()
    for part in (method.network.encoder, method.network.decoder):
        assert all(p.grad.abs().sum() > 0 for p in part.parameters())
    assert float(method.losses(batch(), 0.0)["adversarial"].detach()) == 0


# -- fine-tuning -------------------------------------------------------------------------------------------------


def test_fine_tuning_looks_at_the_source_first_then_at_the_target():
    method, given = build("finetune", source_stage=0.6), batch()
    assert set(method.losses(given, 0.59)) == {"segmentation"}
    assert set(method.losses(given, 0.6)) == {"segmentation", "target_segmentation"}
    continued = build("finetune", summary=DataSummary(continued=True))
    assert set(continued.losses(given, 0.0)) == {"segmentation", "target_segmentation"}


def test_fine_tuning_replays_a_share_of_the_source():
    def source_loss(progress):
        method = build("finetune", source_stage=0.5, replay=0.25)
        return float(method.losses(batch(), progress)["segmentation"].detach())

    assert source_loss(0.7) == pytest.approx(0.25 * source_loss(0.1), rel=1e-5)


def test_fine_tuning_lowers_the_learning_rate():
    method, base = build("finetune", source_stage=0.5, fine_rate=0.2), build("source_only")
    assert method.learning_rate(0.4) == pytest.approx(base.learning_rate(0.4))
    assert method.learning_rate(0.6) == pytest.approx(0.2 * base.learning_rate(0.6))


@pytest.mark.parametrize(("progress", "factor"), [(0.0, 1.0), (0.5, 0.505), (1.0, 0.01)])
def test_the_learning_rate_falls_along_half_a_cosine(progress, factor):
    assert build("source_only").learning_rate(progress) == pytest.approx(factor)


def test_fine_tuning_without_annotations_is_refused_and_leaves_nothing(project):
    job = TrainJob(
        project=str(project.folder),
        method="finetune",
        settings=TrainSettings(patch=32),
    )
    with pytest.raises(JobError, match="there are none: annotate some first"):
        list(execute(job))
    assert not (project.folder / "runs").exists()
