"""What only single methods do: histogram matching, Y-Net, denoising, DAMT-Net, fine-tuning."""

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
from napari_emda.errors import JobError, SettingsError
from napari_emda.jobs.execute import execute
from napari_emda.methods.base import DataSummary, methods
from napari_emda.methods.denoising import corrupt
from napari_emda.nn.histogram import HistogramMatch
from napari_emda.nn.networks.unet import UNet
from napari_emda.project.job_files import TrainJob
from napari_emda.sampling.augmentation import Augmentation
from napari_emda.sampling.patches import Patches
from napari_emda.settings.training import TrainSettings


def build(name, *, summary=None, dropout=0.0, **settings):
    torch.manual_seed(0)
    cls = methods[name]
    network = UNet(2, UNet.Settings(base_channels=8, dropout=dropout))
    return cls(cls.Settings.parse(settings), network, summary or DataSummary())


def batch(n=2, side=32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(n, 1, side, side, generator=generator)
    labels = (image[:, 0] > 0.5).long()
    unlabelled = torch.full_like(labels, IGNORE)
    other = torch.randn(n, 1, side, side, generator=generator) * 2 + 1
    return {"source": Patches(image, labels, image), "target": Patches(other, unlabelled, other)}


# -- histogram matching ----------------------------------------------------------------------------


def quantiles(values):
    return np.quantile(values, np.linspace(0, 1, QUANTILES))


def images():
    """Two images with grey values from 0 to 255 and very different histograms."""
    rng = np.random.default_rng(0)
    source, target = rng.random((2, 200, 200))
    bimodal = np.where(rng.random((200, 200)) < 0.3, target**0.5, target**1.5)
    return 255 * source**2, 20 + 200 * bimodal


def matched(match, image):
    return match(torch.as_tensor(image, dtype=torch.float32)).numpy()


def test_matching_agrees_with_scikit_image():
    source, target = images()
    result = matched(HistogramMatch(quantiles(source), quantiles(target)), source)
    expected = match_histograms(source, target)
    assert np.abs(result - expected).max() <= 1
    assert np.abs(source - expected).max() > 20


def test_matching_is_idempotent_and_matching_to_itself_is_the_identity():
    source, target = images()
    itself = HistogramMatch(quantiles(source), quantiles(source))
    np.testing.assert_allclose(matched(itself, source), source, atol=0.05)
    once = matched(HistogramMatch(quantiles(source), quantiles(target)), source)
    twice = matched(HistogramMatch(quantiles(once), quantiles(target)), once)
    np.testing.assert_allclose(twice, once, atol=1)


def test_matching_keeps_the_order_of_grey_values_also_beyond_the_extremes():
    source, target = images()
    match = HistogramMatch(quantiles(source), quantiles(target))
    greys = np.linspace(-300, 600, 5000)
    mapped = matched(match, greys)
    assert (np.diff(mapped) >= 0).all()
    below = mapped[greys < source.min()]
    np.testing.assert_allclose(np.diff(below), np.diff(greys[greys < source.min()]), atol=1e-2)


def test_a_single_grey_value_is_mapped_without_division_by_0():
    match = HistogramMatch(np.zeros(QUANTILES), quantiles(images()[1]))
    assert np.isfinite(matched(match, [0.0])).all()
    flat = matched(HistogramMatch(quantiles(images()[0]), np.full(QUANTILES, 7.0)), [50.0, 90.0])
    np.testing.assert_allclose(flat, 7, atol=1e-5)


def test_equal_grey_values_get_the_mean_of_the_same_ranks_of_the_target():
    source, target = images()
    coarse = np.round(source / 40) * 40
    result = matched(HistogramMatch(quantiles(coarse), quantiles(target)), coarse)
    ordered = np.sort(target.ravel())
    for grey in np.unique(coarse):
        first_rank = (coarse < grey).sum()
        last_rank = (coarse <= grey).sum()
        assert len(np.unique(result[coarse == grey])) == 1
        expected = ordered[first_rank:last_rank].mean()
        assert result[coarse == grey][0] == pytest.approx(expected, abs=4)


@pytest.mark.parametrize("fraction", [0.0, 0.5, 1.0])
def test_the_given_fraction_of_source_patches_is_matched(fraction):
    summary = DataSummary(
        {"source": np.linspace(-2, 2, QUANTILES), "target": np.linspace(10, 14, QUANTILES)}
    )
    method = build("histogram", summary=summary, matched=fraction)
    prepared = method.prepare(batch(200), Augmentation("none", 0), 0.0)
    matched_fraction = (prepared["source"].image.mean((1, 2, 3)) > 5).float().mean()
    assert matched_fraction == pytest.approx(fraction, abs=0.1)
    assert torch.equal(prepared["source"].image, prepared["source"].clean)
    assert torch.equal(prepared["target"].image, batch(200)["target"].image)


def test_padding_keeps_its_grey_value():
    source, target = images()
    match = HistogramMatch(quantiles(source), quantiles(target), padding=[-40.0])
    image = torch.as_tensor(source, dtype=torch.float32)
    image[:50] = -40
    result = match(image)
    assert (result[:50] == -40).all()
    without_padding = HistogramMatch(quantiles(source), quantiles(target))
    assert torch.equal(result[50:], without_padding(image[50:]))


def test_the_method_gets_the_padding_of_a_volume(make_training, source, target, tmp_path):
    image = source.image.copy()
    image[:, 48:] = 0
    training = make_training(
        [replace(source, image=image), target], tmp_path / "run", "histogram", {"matched": 1}
    )
    patches = training.sampler.batch(0)["source"].image
    (padding,) = training.sampler.padding("source")
    padded = patches == padding
    assert 0 < padded.float().mean() < 1
    result = training.method.match(patches)
    assert torch.equal(result[padded], patches[padded])
    assert not torch.equal(result[~padded], patches[~padded])
    assert training.sampler.padding("target") == ()


# -- Y-Net -----------------------------------------------------------------------------------------


def test_the_reconstruction_depends_only_on_the_bottleneck():
    ynet = build("ynet").eval()
    with torch.no_grad():
        without_bottleneck = []
        for seed in (0, 1):
            maps = ynet.network.encode(batch(seed=seed)["source"].image)
            assert ynet.reconstruction(maps).std() > 1e-3
            image = ynet.reconstruction([*maps[:-1], torch.zeros_like(maps[-1])])
            without_bottleneck.append(image)
    assert torch.equal(*without_bottleneck)


def test_the_segmentation_needs_no_reconstruction_decoder():
    ynet = build("ynet").eval()
    x = batch()["target"].image
    with torch.no_grad():
        before = ynet.predictor(x)
        del ynet.reconstruction
        assert torch.equal(ynet.predictor(x), before)


def test_the_reconstruction_has_a_gradient_for_the_encoder_but_not_the_segmentation_decoder():
    ynet = build("ynet")
    losses = ynet.losses(batch(), 0.0)
    (losses["source_reconstruction"] + losses["target_reconstruction"]).backward()
    network = ynet.network
    segmentation = [*network.decoder.parameters(), *network.head.parameters()]
    reconstruction = [*network.encoder.parameters(), *ynet.reconstruction.parameters()]
    assert all(parameter.grad is None for parameter in segmentation)
    assert all(parameter.grad is not None for parameter in reconstruction)


def test_the_weight_of_the_reconstruction_falls_along_a_cosine():
    def loss(progress):
        ynet = build("ynet", reconstruction=0.4, reconstruction_end=0.1)
        return float(ynet.losses(batch(), progress)["target_reconstruction"].detach())

    assert loss(0.5) / loss(0.0) == pytest.approx(0.25 / 0.4, rel=1e-5)
    assert loss(1.0) / loss(0.0) == pytest.approx(0.1 / 0.4, rel=1e-5)


def test_the_target_of_the_reconstruction_is_the_standardised_clean_patch():
    def loss(clean):
        patches = batch()
        patches["target"] = Patches(patches["target"].image, patches["target"].labels, clean)
        return float(build("ynet").losses(patches, 0.0)["target_reconstruction"].detach())

    clean = batch(seed=5)["target"].image
    assert loss(clean) == pytest.approx(loss(7 * clean - 3), rel=1e-4)
    assert loss(clean) != pytest.approx(loss(-clean), rel=1e-4)


def test_with_annotations_a_second_stage_trains_on_the_labels_of_both_volumes():
    summary = DataSummary(annotated=True)
    ynet = build("ynet", summary=summary, second_stage=0.4, fine_rate=0.2)
    base = build("source_only")
    first_stage = {"segmentation", "source_reconstruction", "target_reconstruction"}
    assert set(ynet.losses(batch(), 0.59)) == first_stage
    assert set(ynet.losses(batch(), 0.6)) == {"segmentation", "target_segmentation"}
    assert ynet.learning_rate(0.59) == pytest.approx(base.learning_rate(0.59))
    assert ynet.learning_rate(0.6) == pytest.approx(0.2 * base.learning_rate(0.6))
    without_annotations = build("ynet", second_stage=0.4)
    assert set(without_annotations.losses(batch(), 0.99)) == first_stage


def test_the_curves_of_the_reconstruction_are_in_decibels():
    ynet = build("ynet", reconstruction=1.0)
    losses = ynet.losses(batch(), 0.0)
    for domain in ("source", "target"):
        error = float(losses[f"{domain}_reconstruction"].detach())
        expected = peak_signal_noise_ratio(np.full(9, np.sqrt(error)), np.zeros(9), data_range=4)
        assert float(ynet.reported[f"{domain}_psnr"]) == pytest.approx(expected, abs=1e-3)


# -- denoising -------------------------------------------------------------------------------------


class FixedResolution(Augmentation):
    """Maximum noise, and a chosen number that determines the resolution."""

    def __init__(self, resolution):
        super().__init__("none", 0)
        self.resolution = resolution

    def uniform(self, n, low=0.0, high=1.0):
        return torch.full((n,), self.resolution if (low, high) == (0.0, 1.0) else high)


def smooth(n=4, side=64):
    return torch.nn.functional.avg_pool2d(torch.randn(n, 1, side + 8, side + 8), 9, 1)


def test_without_noise_blocks_and_coarsening_a_patch_does_not_change():
    image = smooth()
    assert torch.equal(corrupt(image, FixedResolution(0.1), noise=0, hidden=0), image)


@pytest.mark.parametrize(("resolution", "factor"), [(0.5, 2), (0.9, 4)])
def test_coarse_patches_are_those_of_pillow(resolution, factor):
    image = smooth(1)
    augment = FixedResolution(resolution)
    result = corrupt(image, augment, noise=0, hidden=0)
    bilinear = Image.Resampling.BILINEAR
    small = Image.fromarray(image[0, 0].numpy()).resize((64 // factor,) * 2, bilinear)
    np.testing.assert_allclose(result[0, 0], small.resize((64, 64), bilinear), atol=1e-5)
    constant = torch.full((1, 1, 64, 64), 0.7)
    torch.testing.assert_close(corrupt(constant, augment, noise=0, hidden=0), constant)


def test_the_noise_has_the_given_standard_deviation():
    noise = corrupt(torch.zeros(1, 1, 512, 512), FixedResolution(0.1), noise=0.8, hidden=0)
    assert float(noise.std()) == pytest.approx(0.8, rel=0.03)


def test_a_quarter_of_the_blocks_is_hidden():
    result = corrupt(torch.ones(8, 1, 96, 96), FixedResolution(0.1), noise=0, hidden=0.25)
    blocks = result.unfold(2, 8, 8).unfold(3, 8, 8).flatten(4)
    assert ((blocks == 0).all(-1) | (blocks == 1).all(-1)).all()
    assert float((blocks == 0).float().mean()) == pytest.approx(0.25, abs=0.05)


def test_restoration_comes_first_and_copying_the_input_has_a_large_error():
    method = build("denoising", pretraining=0.4)
    patches = batch(8, 64)
    prepared = method.prepare(patches, Augmentation("weak", 0), 0.1)
    for domain, degraded in prepared.items():
        error = torch.nn.functional.mse_loss(degraded.image, degraded.clean)
        assert error > 0.1 * patches[domain].image.var()
    assert set(method.losses(prepared, 0.1)) == {"source_restoration", "target_restoration"}
    assert set(method.losses(patches, 0.4)) == {"segmentation"}


def test_the_encoder_is_slower_in_the_segmentation_stage():
    method = build("denoising", pretraining=0.4, encoder_rate=0.1)
    assert method.learning_rate(0.2, "encoder") == method.learning_rate(0.2, "rest")
    expected = 0.1 * method.learning_rate(0.7, "rest")
    assert method.learning_rate(0.7, "encoder") == pytest.approx(expected)
    encoder = {id(parameter) for parameter in method.network.encoder.parameters()}
    assert {id(parameter) for parameter in method.parameter_groups()["encoder"]} == encoder


# -- Attention Y-Net -------------------------------------------------------------------------------


def test_attention_ynet_has_three_stages():
    method = build("attention_ynet", first_stage=0.2, second_stage=0.3, segmentation=0.02)
    both = {"source_reconstruction", "target_reconstruction"}
    stages = {p: set(method.losses(batch(), p)) for p in (0.0, 0.19, 0.21, 0.49, 0.51, 0.99)}
    assert stages[0.0] == stages[0.19] == both | {"segmentation"}
    assert stages[0.21] == stages[0.49] == both
    assert stages[0.51] == stages[0.99] == {"segmentation"}
    first, third = (
        float(method.losses(batch(), progress)["segmentation"].detach()) for progress in (0.0, 0.6)
    )
    assert first == pytest.approx(0.02 * third, rel=1e-4)
    assert method.learning_rate(0.6, "shared") == 0
    assert method.learning_rate(0.6, "segments") > 0


# -- DAMT-Net --------------------------------------------------------------------------------------


def test_network_and_discriminators_of_damt_get_no_gradient_from_losses_of_the_other():
    method = build("damt")
    critics = [*method.label_critic.parameters(), *method.feature_critic.parameters()]
    adversarial = method.losses(batch(), 0.5)["adversarial"]
    of_critics = torch.autograd.grad(adversarial, critics, allow_unused=True)
    assert all(gradient is None for gradient in of_critics)
    network = list(method.network.parameters())
    discrimination = method.losses(batch(), 0.5)["critics"]
    of_network = torch.autograd.grad(discrimination, network, allow_unused=True)
    assert all(gradient is None for gradient in of_network)
    assert all(parameter.requires_grad for parameter in critics)


def test_the_adversarial_loss_of_damt_trains_encoder_and_decoder():
    method = build("damt")
    method.losses(batch(), 0.5)["adversarial"].backward()
    for module in (method.network.encoder, method.network.decoder):
        assert all(parameter.grad.abs().sum() > 0 for parameter in module.parameters())
    assert float(method.losses(batch(), 0.0)["adversarial"].detach()) == 0


# -- fine-tuning -----------------------------------------------------------------------------------


def test_fine_tuning_trains_on_the_source_first_and_then_on_the_target():
    method = build("finetune", source_stage=0.6)
    assert set(method.losses(batch(), 0.59)) == {"segmentation"}
    assert set(method.losses(batch(), 0.6)) == {"segmentation", "target_segmentation"}


def test_fine_tuning_from_another_run_skips_the_first_stage():
    continued = build("finetune", summary=DataSummary(continued=True))
    assert set(continued.losses(batch(), 0.0)) == {"segmentation", "target_segmentation"}


def test_fine_tuning_replays_the_source_with_a_weight():
    def source_loss(progress):
        method = build("finetune", source_stage=0.5, replay=0.25)
        return float(method.losses(batch(), progress)["segmentation"].detach())

    assert source_loss(0.7) == pytest.approx(0.25 * source_loss(0.1), rel=1e-5)


def test_fine_tuning_lowers_the_learning_rate():
    method = build("finetune", source_stage=0.5, fine_rate=0.2)
    base = build("source_only")
    assert method.learning_rate(0.4) == pytest.approx(base.learning_rate(0.4))
    assert method.learning_rate(0.6) == pytest.approx(0.2 * base.learning_rate(0.6))


@pytest.mark.parametrize(("progress", "factor"), [(0.0, 1.0), (0.5, 0.505), (1.0, 0.01)])
def test_the_learning_rate_falls_along_half_a_cosine(progress, factor):
    assert build("source_only").learning_rate(progress) == pytest.approx(factor)


def test_fine_tuning_without_annotations_is_refused_and_leaves_nothing(project):
    settings = TrainSettings(patch=32)
    job = TrainJob(project=str(project.folder), method="finetune", settings=settings)
    with pytest.raises(JobError, match="there are none: annotate some first"):
        list(execute(job))
    assert not (project.folder / "runs").exists()


def test_auto_takes_the_amount_of_each_class_from_annotations_once_there_are_some():
    without = build("auto").postprocessing
    assert (without.prior_strength, without.target_statistics_weight) == (0.85, 0.5)
    annotated = build("auto", summary=DataSummary(annotated=True)).postprocessing
    assert (annotated.prior_strength, annotated.target_statistics_weight) == (0.0, 1.0)
    assert (annotated.flips, annotated.z_smoothing) == (without.flips, without.z_smoothing)


def test_amounts_that_nobody_knows_move_nothing():
    assert build("auto", amounts="unknown").postprocessing.prior_strength == 0


@pytest.mark.parametrize("annotated", [False, True])
def test_measured_amounts_count_also_beside_annotations(annotated):
    summary = DataSummary(annotated=annotated)
    method = build("auto", summary=summary, amounts="measured", measured_shares="0.2")
    assert method.postprocessing.shares == (0.8, 0.2)
    assert method.postprocessing.prior_strength == 0.85


@pytest.mark.parametrize("text", ["0.5,0.6", "-0.1", "a", "nan", "1", "0.1;0.2", "0.1,"])
def test_shares_that_are_none_are_refused(text):
    with pytest.raises(SettingsError, match=r"fraction of each class .* such as 0\.07 or"):
        methods["auto"].Settings.parse({"measured_shares": text})


def test_each_class_needs_its_measured_share():
    with pytest.raises(SettingsError, match="gives 2 fractions for the 1 classes"):
        build("auto", amounts="measured", measured_shares="0.1,0.2")


# -- agreement on unlabelled patches ---------------------------------------------------------------


def agreement_of(name, patches, **settings):
    """The loss of a second stage with annotated patches, the same changes every time."""
    summary = DataSummary(annotated=True, continued=True)
    method = build(name, summary=summary, **settings)
    torch.manual_seed(3)
    return method.losses(patches, 0.9).get("agreement")


@pytest.mark.parametrize("name", ["finetune", "auto"])
def test_unlabelled_patches_teach_once_patches_are_annotated(name):
    patches = batch(n=4)
    assert agreement_of(name, patches) is None
    loss = agreement_of(name, patches, agreement=1.0)
    assert loss.requires_grad
    loss = loss.detach()
    assert loss > 0
    weaker = agreement_of(name, patches, agreement=0.25)
    torch.testing.assert_close(weaker.detach(), 0.25 * loss)
    clean = patches["target"].clean
    for changed, counts in ((slice(0, 2), False), (slice(2, 4), True)):
        other = clean.clone()
        other[changed] *= -1
        target = replace(patches["target"], clean=other)
        again = agreement_of(name, patches | {"target": target}, agreement=1.0).detach()
        assert torch.equal(again, loss) != counts


def test_agreement_needs_annotations_and_the_second_stage():
    assert "agreement" not in build("auto", agreement=1.0).losses(batch(), 0.9)
    finetune = build("finetune", source_stage=0.6, agreement=1.0)
    assert set(finetune.losses(batch(), 0.59)) == {"segmentation"}
    # Its changes are drawn on the host, so that no GPU may replay such a step.
    assert finetune.recorded_stage(0.59) == "source"
    assert finetune.recorded_stage(0.6) is None
    annotated = build("auto", summary=DataSummary(annotated=True), agreement=1.0)
    assert annotated.recorded_stage(0.5) is None
    assert build("auto", agreement=1.0).recorded_stage(0.5)
