"""Class shares and neighbouring sections, against scikit-learn, SciPy and sorting."""

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate1d
from scipy.special import log_softmax
from scipy.stats import gmean
from sklearn.metrics import cohen_kappa_score

from napari_emda.data.box import Box
from napari_emda.data.volume import Volume
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.events import TileDone, result_of
from napari_emda.inference.device import Compute
from napari_emda.inference.model_header import ModelHeader
from napari_emda.inference.predict import predict
from napari_emda.inference.predictor import Predictor, predict_box, smoothed_along_z
from napari_emda.methods.base import Postprocessing
from napari_emda.nn.networks.unet import UNet
from napari_emda.project.run_folder import RunFolder
from napari_emda.project.stored_prediction import StoredPrediction
from napari_emda.sampling.sampler import PatchSampler
from napari_emda.settings.prediction import PredictSettings
from napari_emda.training.loop import fit
from napari_emda.training.prior_matching import (
    LARGEST_OFFSET,
    WEIGHT,
    CalibrationSample,
    agreement,
    between,
    calibrate,
    offsets,
)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


class Brightness(UNet):
    """Says that what is brighter than 1 is class 1."""

    def __init__(self):
        super().__init__(2, UNet.Settings(base_channels=8))
        self.seen = 0

    def encode(self, x):
        self.seen += len(x)
        return [x]

    def decode(self, maps):
        logit = 1.5 * (maps[0] - 1)
        return torch.cat([-logit / 2, logit / 2], 1) + self.offset.view(1, -1, 1, 1)


def predictor(z_smoothing=0.0):
    header = ModelHeader(
        method="auto",
        classes=("background", "x"),
        network={"classes": 2},
        pixel_size=4.0,
        z_smoothing=z_smoothing,
        prediction_domain="target",
    )
    return Predictor(Brightness(), header, Compute.choose("cpu", "32"))


def target(image):
    return Volume("v", image, "target", VoxelGrid((50.0, 4.0, 4.0)))


# -- shares ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.01, 0.3, 0.5])
def test_with_two_classes_the_most_probable_share_of_pixels_is_taken(share):
    logs = log_softmax(normal(5000, 2), axis=1).astype(np.float32)
    chosen = (logs + offsets(logs, (1 - share, share))).argmax(1)
    ranks = np.argsort(logs[:, 1] - logs[:, 0])
    assert set(np.flatnonzero(chosen)) == set(ranks[-int(chosen.sum()) :])
    assert chosen.mean() == pytest.approx(share, abs=1e-3)


def test_with_several_classes_every_share_fits():
    logs = log_softmax(normal(20_000, 4) * 2, axis=1).astype(np.float32)
    shares = (0.6, 0.25, 0.05, 0.1)
    chosen = (logs + offsets(logs, shares)).argmax(1)
    np.testing.assert_allclose(np.bincount(chosen) / len(logs), shares, atol=0.01)


def test_decisions_of_which_the_network_is_sure_do_not_change():
    logs = log_softmax(np.tile(np.float32([20, 0]), (100, 1)), axis=1)
    found = offsets(logs, (0.5, 0.5))
    assert abs(found).max() == LARGEST_OFFSET
    assert not (logs + found).argmax(1).any()


def test_shares_move_along_the_geometric_mean():
    found = (0.9, 0.1)
    prior_shares = (0.96, 0.04)
    np.testing.assert_allclose(between(found, prior_shares, 0), found)
    np.testing.assert_allclose(between(found, prior_shares, 1), prior_shares)
    middle = gmean([found, prior_shares])
    np.testing.assert_allclose(between(found, prior_shares, 0.5), middle / middle.sum())
    assert between((1.0, 0.0), prior_shares, 0.5).min() > 0


# -- neighbours ------------------------------------------------------------------------------------


def test_agreement_is_cohens_kappa():
    first, other = np.random.default_rng(0).integers(0, 3, (2, 500))
    second = np.where(np.arange(500) % 3, first, other)
    assert agreement(np.stack([first, second]), 3) == pytest.approx(
        cohen_kappa_score(first, second)
    )
    assert agreement(np.zeros((2, 9), int), 2) == 0


def test_sections_are_averaged_as_a_filter_of_three_averages_logits():
    logits = normal(6, 3, 5, 7)
    expected = correlate1d(logits, [0.2, 0.6, 0.2], axis=0, mode="nearest")
    model = smoothed_along_z(torch.from_numpy(logits).softmax(1), 0.2)
    torch.testing.assert_close(model, torch.from_numpy(expected).softmax(1), rtol=0, atol=1e-5)


@pytest.mark.parametrize("settings", [{}, {"block": 32}, {"memory": 0.05}])
def test_blocks_are_averaged_as_the_whole_and_no_section_is_computed_for_each_neighbour(
    settings, tmp_path
):
    image = normal(9, 90, 70)
    model = predictor(z_smoothing=0.2)
    events = list(
        predict(model, target(image), PredictSettings(flips="off", **settings), RunFolder(tmp_path))
    )
    standard = (image - image.mean()) / image.std()
    logits = correlate1d(1.5 * (standard - 1), [0.2, 0.6, 0.2], axis=0, mode="nearest")
    stored = StoredPrediction(RunFolder(tmp_path), "v").probabilities[0].astype(float) / 255
    np.testing.assert_allclose(stored, 1 / (1 + np.exp(-logits)), atol=0.01)
    regions = {event.box[2:] for event in events if isinstance(event, TileDone)}
    assert model.network.seen <= len(regions) * (
        len(image) + 2
    )  # the last tile of a place may see two again


def test_a_prediction_that_was_stopped_goes_on_with_its_neighbours(tmp_path):
    volume = target(normal(8, 64, 64))
    settings = PredictSettings(flips="off", block=32)
    list(predict(predictor(0.2), volume, settings, RunFolder(tmp_path / "whole")))
    begun = predict(predictor(0.2), volume, settings, RunFolder(tmp_path / "stopped"))
    for _ in range(5):
        next(begun)
    begun.close()
    list(predict(predictor(0.2), volume, settings, RunFolder(tmp_path / "stopped")))
    whole, stopped = (
        StoredPrediction(RunFolder(tmp_path / name), "v").probabilities[:]
        for name in ("whole", "stopped")
    )
    assert np.array_equal(whole, stopped)


# -- both on a target ------------------------------------------------------------------------------


def calibrated(image, postprocessing, prior=(0.9, 0.1)):
    model = predictor()
    sampler = PatchSampler([target(image)], 32, 1)
    sample = CalibrationSample(64, 32, flips=False)
    weight = result_of(calibrate(model, sampler.regions("target"), prior, postprocessing, sample))
    return model, weight


def test_sections_that_resemble_each_other_are_averaged_and_independent_images_are_not():
    postprocessing = Postprocessing(z_smoothing=True)
    section = normal(1, 96, 96)
    assert calibrated(np.repeat(section, 8, axis=0), postprocessing)[1] == WEIGHT
    assert calibrated(normal(8, 96, 96), postprocessing)[1] == 0
    assert calibrated(section, Postprocessing())[1] == 0


@pytest.mark.parametrize(("kept", "share"), [(0.95, 1), (0.55, 1), (0.3, 0.7), (0.06, 0)])
def test_the_weight_of_neighbours_grows_until_sections_agree_to_two_fifths(kept, share):
    """Each pixel repeats the section before with a probability, about Cohen's kappa."""
    rng = np.random.default_rng(0)
    image = normal(60, 64, 64)
    for z in range(1, len(image)):
        same = rng.random(image.shape[1:]) < kept
        image[z] = np.where(same, image[z - 1], image[z])
    _, weight = calibrated(image, Postprocessing(z_smoothing=True))
    assert weight == pytest.approx(share * WEIGHT, rel=0.15)


def test_the_target_gets_the_shares_of_the_source(tmp_path):
    volume = target(normal(8, 96, 96))
    model, _ = calibrated(volume.image, Postprocessing(prior_strength=1.0))
    list(predict(model, volume, PredictSettings(flips="off"), RunFolder(tmp_path)))
    stored = StoredPrediction(RunFolder(tmp_path), "v").probabilities[0]
    assert (stored > 127).mean() == pytest.approx(0.1, abs=0.01)
    plain = (volume.image > 1).mean()
    assert plain == pytest.approx(0.16, abs=0.01)
    assert not calibrated(volume.image, Postprocessing(prior_strength=1.0), prior=())[
        0
    ].network.offset.any()


@pytest.mark.parametrize("border", [-30.0, 30.0])
def test_constant_borders_count_for_no_class(border, tmp_path):
    """Neither where the network takes them for background nor where for an object."""
    image = normal(8, 96, 96)
    image[:, :, :40] = border
    volume = target(image)
    model, _ = calibrated(image, Postprocessing(prior_strength=1.0))
    list(predict(model, volume, PredictSettings(flips="off"), RunFolder(tmp_path)))
    stored = StoredPrediction(RunFolder(tmp_path), "v").probabilities[0]
    assert (stored[:, :, 40:] > 127).mean() == pytest.approx(0.1, abs=0.01)
    box = Box((3, 0, 0), (4, 96, 96))
    assert np.array_equal(predict_box(model, volume, box)[0], stored[3])


def test_a_training_moves_the_target_to_the_shares_that_were_measured(
    make_training, source, target, tmp_path
):
    settings = {
        "amounts": "measured",
        "measured_shares": "0.3",
        "prior_strength": 1,
        "flips": False,
    }
    training = make_training([source, target], tmp_path / "run", "auto", settings)
    list(fit(training))
    assert source.labels is not None
    assert (source.labels == 1).mean() < 0.2
    model = Predictor.load(tmp_path / "run", "cpu", "32")
    list(predict(model, target, PredictSettings(), RunFolder(tmp_path)))
    stored = StoredPrediction(RunFolder(tmp_path), "target").probabilities[0]
    assert (stored > 127).mean() == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize("shape", [(8, 96, 96), (1, 100, 120), (5, 64, 70)])
def test_a_small_volume_gets_the_shares_that_were_asked_for(shape, tmp_path):
    """Measured on all of it, by a network that sees less at the edges of a tile."""
    torch.manual_seed(1)
    model = predictor()
    model.network = UNet(2, UNet.Settings(base_channels=8, depth=3)).eval()
    sampler = PatchSampler([target(normal(*shape))], 32, 1)
    sample = CalibrationSample(64, 64, flips=False)
    asked = Postprocessing(prior_strength=1.0)
    events = list(calibrate(model, sampler.regions("target"), (0.8, 0.2), asked, sample))
    assert [event.done for event in events] == [*range(1, events[-1].total + 1)]
    list(predict(model, target(normal(*shape)), PredictSettings(flips="off"), RunFolder(tmp_path)))
    stored = StoredPrediction(RunFolder(tmp_path), "v").probabilities[0]
    assert (stored > 127).mean() == pytest.approx(0.2, abs=0.004)


@pytest.mark.parametrize(
    ("shape", "sections", "whole"),
    [
        ((8, 96, 96), 1, True),
        ((8, 96, 96), 8, False),
        ((40, 96, 96), 1, False),
        ((1, 200, 200), 1, False),
    ],
)
def test_a_volume_is_measured_completely_if_that_is_no_more_work(shape, sections, whole):
    (region,) = PatchSampler([target(normal(*shape))], 32, 1).regions("target")
    sample = CalibrationSample(16, 64, flips=False, sections=sections)
    boxes = sample.boxes(region, 1)
    assert (boxes == [region.box]) == whole
    assert sum(map(sample.pixels, boxes)) <= 16 * (sections + 2) * 64**2
    assert whole or all(box.shape[0] == 1 and max(box.shape) <= 64 for box in boxes)


def test_the_source_is_left_alone():
    source = replace(target(normal(3, 40, 40)), domain="source")
    assert predictor(0.2).z_smoothing(source) == 0
    assert predictor(0.2).z_smoothing(target(normal(1, 40, 40))) == 0


# -- in the network --------------------------------------------------------------------------------


def test_the_offset_counts_in_evaluation_alone_and_can_be_absorbed():
    network = UNet(2, UNet.Settings(base_channels=8, dropout=0.0)).eval()
    x = torch.randn(1, 1, 32, 32)
    with torch.no_grad():
        plain = network(x)
        network.offset.copy_(torch.tensor([0.0, 1.5]))
        moved = network(x)
        torch.testing.assert_close(
            moved - plain, torch.tensor([0.0, 1.5]).view(1, 2, 1, 1).expand_as(plain)
        )
        maps = network.encode(x)
        learning = deepcopy(network).train()
        assert torch.equal(
            learning.decode(maps), deepcopy(network).train().head(learning.decoder(maps))
        )
        network.absorb_offset()
        torch.testing.assert_close(network(x), moved)
    assert not network.offset.any()
