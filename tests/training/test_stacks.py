"""3-D networks: every method trains them, and volumes, previews and suggestions see depth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import entropy as scipy_entropy

from napari_emda.active_learning.patch_features import patch_features
from napari_emda.data.box import Box
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.errors import DataError, SettingsError
from napari_emda.events import Stepped
from napari_emda.inference import checkpoint
from napari_emda.inference.predict import predict
from napari_emda.inference.predictor import Predictor, entropy, predict_box
from napari_emda.methods.base import Postprocessing, methods
from napari_emda.nn.normalisation import in_domain
from napari_emda.nn.stacks import in_stacks_of
from napari_emda.project.run_folder import RunFolder
from napari_emda.project.stored_prediction import StoredPrediction
from napari_emda.settings.prediction import PredictSettings
from napari_emda.training.loop import fit
from napari_emda.training.prior_matching import CalibrationSample, calibrate

SHALLOW = {"network": "unet_3d", "network_settings": {"sections": 8}, "batch": 2, "steps": 2}


@pytest.fixture
def volumes(source, target, phantoms):
    """Sections of 16 nm, 12 of the source, and of 8 nm, 24 of the target, some annotated."""
    annotations = np.zeros((24, 96, 96), np.uint8)
    annotations[11, 20:70, 20:70] = phantoms["target"][1][1][20:70, 20:70] + 1
    thick = replace(
        source,
        image=np.repeat(source.image, 3, axis=0),
        labels=np.repeat(source.labels, 3, axis=0),
        grid=VoxelGrid((16.0, 8.0, 8.0)),
    )
    thin = replace(
        target,
        image=np.repeat(target.image, 6, axis=0),
        annotations=annotations,
        taught=annotations[None],
        grid=VoxelGrid((8.0, 8.0, 8.0)),
    )
    return [thick, thin]


def train(make_training, volumes, folder, method="source_only", **values):
    training = make_training(volumes, folder, method, **{**SHALLOW, **values})
    return training, list(fit(training))


def predicted(training, volume, folder, **settings):
    """255 times the probability of the foreground."""
    predictor = Predictor.load(training.path, "cpu", "32")
    list(predict(predictor, volume, PredictSettings(**settings), RunFolder(folder)))
    return np.asarray(StoredPrediction(RunFolder(folder), volume.name).probabilities[0])


# One of each kind: with two domains, a discriminator, a decoder of its own, clusters, and without
# labels. The others differ from them in their losses, which see no sections.
KINDS = ("auto", "damt", "ynet", "iic", "denoising")


@pytest.mark.parametrize(
    "method",
    [
        name if name in KINDS else pytest.param(name, marks=pytest.mark.slow)
        for name in methods.names()
    ],
)
def test_every_method_trains_it_and_continues_bitwise(
    volumes, make_training, tmp_path, same_weights, method
):
    training, events = train(make_training, volumes, tmp_path / "a", method, batch=1)
    losses = [event.losses for event in events if isinstance(event, Stepped)]
    assert len(losses) == 2
    assert all(np.isfinite(list(values.values())).all() for values in losses)
    stopped = make_training(volumes, tmp_path / "b", method, **{**SHALLOW, "batch": 1})
    events = fit(stopped)
    next(event for event in events if isinstance(event, Stepped))
    events.close()
    resumed, _ = train(make_training, volumes, tmp_path / "b", method, batch=1)
    assert same_weights(training.method, resumed.method)


def test_it_learns_where_objects_end(volumes, make_training, tmp_path):
    training, events = train(make_training, volumes, tmp_path / "run", objects="contour")
    losses = [event.losses for event in events if isinstance(event, Stepped)]
    assert all(np.isfinite(list(values.values())).all() for values in losses)
    predictor = Predictor.load(training.path, "cpu", "32")
    image = torch.randn(5, 1, 32, 32)
    outputs = predictor.outputs(image, "source", predictor.stacks_of(volumes[0]))
    assert outputs.shape == (5, 4, 32, 32)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder in which a model is kept for the tests that only predict."""
    return tmp_path_factory.mktemp("trained")


@pytest.fixture
def model(volumes, make_training, trained):
    training = make_training(volumes, trained, "histogram", **SHALLOW)
    if not training.path.exists():
        list(fit(training))
    return training


def test_the_header_holds_what_it_takes(model, volumes):
    header = checkpoint.read_header(model.path)
    assert header.section_distance == 16.0
    assert header.network.section_ratio == 2.0
    network = header.network.build()
    assert (network.stack, network.section_stride) == (8, 2)
    # Every second section of the thin volume, and the volume with thick ones as it is.
    predictor = Predictor.load(model.path, "cpu", "32")
    assert [predictor.stacks_of(volume).step for volume in volumes] == [1, 2]


@pytest.mark.parametrize("index", [0, 1])
def test_a_volume_in_blocks_is_the_whole_volume(model, volumes, tmp_path, index):
    volume = volumes[index]
    predictor = Predictor.load(model.path, "cpu", "32")
    image = np.asarray(volume.image)[:, :, :48]
    # Longer than what a section depends on, so that there are several blocks.
    deep = replace(volume, image=np.concatenate([image, image[::-1]] * 3), annotations=None)
    deep = replace(deep, labels=None, name="deep")
    blocks = predicted(model, deep, tmp_path / "blocks", block=64)
    together = predicted(model, deep, tmp_path / "together")
    assert np.abs(blocks.astype(int) - together).max() <= 1
    assert blocks.shape == deep.shape
    assert 2 * predictor.stacks_of(deep).halo < len(deep.image)


def test_sections_of_a_thin_volume_are_predicted_in_stacks_of_the_distance_of_the_training(
    model, volumes, tmp_path
):
    target = volumes[1]
    stored = predicted(model, target, tmp_path)
    predictor = Predictor.load(model.path, "cpu", "32")
    # The network itself, on every second section, as one stack.
    images = predictor.statistics_of(target).standardise(np.asarray(target.image, np.float32))
    for phase in (0, 1):
        stack = torch.from_numpy(images[phase::2])[:, None]
        network = predictor.network
        domain = predictor.domain_of(target)
        with torch.no_grad(), in_domain(network, domain), in_stacks_of(network, len(stack)):
            expected = network.eval()(stack).softmax(1)[:, 1]
        assert np.abs(stored[phase::2] - 255 * expected.numpy()).max() < 1


def test_a_preview_is_the_section_of_the_volume(model, volumes, tmp_path):
    target = volumes[1]
    stored = predicted(model, target, tmp_path)
    predictor = Predictor.load(model.path, "cpu", "32")
    box = Box((7, 0, 0), (8, 96, 96))
    shown = predict_box(predictor, target, box)[0]
    assert np.abs(stored[7].astype(int) - shown).max() <= 1


def test_a_prediction_sees_the_sections_beside(model, volumes):
    target = volumes[1]
    predictor = Predictor.load(model.path, "cpu", "32")
    box = Box((10, 0, 0), (11, 96, 96))
    before = predict_box(predictor, target, box)
    changed = np.array(target.image)
    changed[12] = 255 - changed[12]
    beside = predict_box(predictor, replace(target, image=changed), box)
    assert (before != beside).any()
    changed = np.array(target.image)
    changed[11] = 255 - changed[11]
    in_another_stack = predict_box(predictor, replace(target, image=changed), box)
    assert (before == in_another_stack).all()


def test_sparse_labels_are_in_half_of_the_stacks_of_an_annotated_target(
    volumes, make_training, tmp_path
):
    training = make_training(volumes, tmp_path, "finetune", **SHALLOW)
    sections = []
    for step in range(20):
        labels = training.sampler.batch(step)["target"].labels
        assert labels.shape == (16, 32, 32)
        first = labels[:8]
        (labelled,) = np.nonzero((first.numpy() != 255).any((1, 2)))
        assert len(labelled) == 1
        sections.append(int(labelled[0]))
    # A network must not learn that only one of the places in a stack has labels.
    assert len(set(sections)) >= 4


def test_a_volume_without_neighbours_is_refused(volumes, make_training, tmp_path):
    source, target = volumes
    independent = replace(target, grid=replace(target.grid, sections_are_independent=True))
    with pytest.raises(DataError, match="independent images, and 3-D networks"):
        make_training([source, independent], tmp_path / "a", "histogram", **SHALLOW)
    single = replace(target, image=target.image[:1], annotations=None)
    with pytest.raises(DataError, match="has one section, and 3-D networks"):
        make_training([source, single], tmp_path / "b", "histogram", **SHALLOW)
    with pytest.raises(SettingsError, match="set context to 0"):
        make_training(volumes, tmp_path / "c", "histogram", **SHALLOW, context=1)


def features(predictor, volume, windows, uncertainty, **settings):
    running = patch_features(
        predictor, volume, windows, uncertainty=uncertainty, embeddings=True, seed=1, **settings
    )
    while True:
        try:
            next(running)
        except StopIteration as end:
            return end.value


def test_suggestions_see_what_a_prediction_sees(model, volumes, tmp_path):
    target = volumes[1]
    predictor = Predictor.load(model.path, "cpu", "32")
    windows = np.array([[z, z + 1, y, y + 32, 8, 40] for z in (0, 7, 23) for y in (0, 48)])
    found = features(predictor, target, windows, lambda outputs: entropy(outputs.probabilities))
    foreground = predicted(model, target, tmp_path) / 255
    expected = scipy_entropy([foreground, 1 - foreground], base=2, axis=0)
    means = [expected[z0, y0:y1, x0:x1].mean() for z0, _, y0, y1, x0, x1 in windows]
    # The prediction is stored as bytes.
    np.testing.assert_allclose(found.uncertainty, means, atol=4e-3)
    assert np.isfinite(found.embeddings).all()
    assert len(np.unique(found.embeddings.round(4), axis=0)) == len(windows)


def test_dropout_draws_other_networks_for_stacks(model, volumes):
    target = volumes[1]
    predictor = Predictor.load(model.path, "cpu", "32")
    windows = np.array([[3, 4, 0, 64, 0, 64], [4, 5, 0, 64, 0, 64]])

    def spread(outputs):
        samples = torch.stack([sample[:, 1] for sample in outputs.dropout(4)])
        return samples.std(0)

    first, again = (features(predictor, target, windows, spread) for _ in range(2))
    assert (first.uncertainty > 1e-4).all()
    assert np.array_equal(first.uncertainty, again.uncertainty)


def test_a_calibration_predicts_the_sections_of_the_volume(model):
    predictor = Predictor.load(model.path, "cpu", "32")
    seen = []
    plain = predictor.probabilities

    def watched(image, *arguments, **options):
        seen.append(len(image))
        return plain(image, *arguments, **options)

    predictor.probabilities = watched
    sample = CalibrationSample(4, 32, flips=False)
    wanted = Postprocessing(prior_strength=1.0, z_smoothing=True)
    regions = model.sampler.regions("target")
    list(calibrate(predictor, regions, (0.8, 0.2), wanted, sample))
    # As deep as a stack of the training, 8 sections at every second one, not three sections.
    assert all(count >= 8 for count in seen)
    assert predictor.network.offset.any()
