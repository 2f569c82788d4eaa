"""Blocks against the whole: same numbers, also after a stop, and as bytes."""

from __future__ import annotations

import contextlib
import itertools
import json
import shutil
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.special import expit
from scipy.stats import entropy as scipy_entropy
from torch import nn

from napari_emda.data.box import Box
from napari_emda.data.intensity import Statistics
from napari_emda.data.volume import Volume
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.errors import DataError
from napari_emda.events import Saved, TileDone
from napari_emda.inference import predict_tiles as predicting
from napari_emda.inference.device import Compute
from napari_emda.inference.model_header import ModelHeader
from napari_emda.inference.predict import predict
from napari_emda.inference.predictor import (
    Predictor,
    entropy,
    foreground_bytes,
    outputs_smoothed_along_z,
    predict_box,
    smoothed_along_z,
    to_bytes,
)
from napari_emda.inference.tiles import BlockReader
from napari_emda.nn.networks.unet import UNet
from napari_emda.nn.normalisation import in_domain, norms
from napari_emda.project.run_folder import RunFolder
from napari_emda.project.stored_prediction import StoredPrediction
from napari_emda.settings.prediction import PredictSettings

CPU = Compute(torch.device("cpu"), bf16=False)
AS_IT_IS = Statistics(0.0, 1.0, (0.0,))


class Identity(nn.Module):
    """Foreground with probability sigmoid(grey value), and what prediction asks of a network."""

    bytes_per_pixel = 256
    stride = 8
    halo = 16
    stack = 1
    classes = 2
    maps_objects = False

    def forward(self, image):
        return torch.cat([torch.zeros_like(image), image], dim=1)


def predictor(network, *, pixel_size=4.0, classes=("background", "a"), step=1, statistics=AS_IT_IS):
    header = ModelHeader(
        method="source_only",
        classes=classes,
        network={"classes": 2},
        pixel_size=pixel_size,
        statistics={"v": statistics} if statistics else {},
        step=step,
    )
    return Predictor(network, header, CPU)


def unet(classes=2):
    torch.manual_seed(0)
    model = UNet(classes, UNet.Settings(base_channels=8, dropout=0.0))
    for layer in norms(model):
        layer.running_mean.normal_(0, 0.1)
        layer.running_var.uniform_(0.5, 2)
    return model.eval()


def volume(image, spacing=(50.0, 4.0, 4.0)):
    return Volume("v", np.asarray(image, np.float32), "target", VoxelGrid(spacing))


def normal(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def predicted(model, target, folder, **values):
    """Predict a volume; returns probabilities (C - 1, z, y, x), uncertainty, number of tiles."""
    events = list(predict(model, target, PredictSettings.parse(values), RunFolder(folder)))
    prediction = StoredPrediction(RunFolder(folder), "v")
    assert events[-1] == Saved(str(folder / "probabilities.zarr" / "v"), model.header.step)
    uncertainty = prediction.uncertainty[:] if values.get("uncertainty", True) else None
    return prediction.probabilities[:], uncertainty, len(events) - 1


def journalled(prediction):
    """The boxes in the journal, in their order."""
    lines = prediction.journal.read_text().splitlines()[1:]
    return [Box.from_bounds(ends) for line in lines for ends in json.loads(line)["boxes"]]


def as_bytes(probabilities):
    return np.round(255 * np.asarray(probabilities)).astype(int)


# -- blocks and the whole --------------------------------------------------------------------------


@pytest.mark.parametrize("pixel_size", [4.0, 8.0])
@pytest.mark.parametrize("block", [0, 64])
def test_padding_is_background_for_sure(block, pixel_size, tmp_path):
    image = normal((2, 120, 160)) + 3  # foreground nearly everywhere
    image[:, :, :40] = 7.5
    image[:, -20:] = 7.5
    statistics = replace(AS_IT_IS, padding=(7.5,))
    model = predictor(Identity(), pixel_size=pixel_size, statistics=statistics)
    probabilities, uncertainty, _ = predicted(model, volume(image), tmp_path, block=block)
    assert not probabilities[0][image == 7.5].any()
    assert not uncertainty[image == 7.5].any()
    before = predictor(Identity(), pixel_size=pixel_size)
    expected, *_ = predicted(before, volume(image), tmp_path / "before", block=block)
    np.testing.assert_array_equal(probabilities[0][image != 7.5], expected[0][image != 7.5])
    assert expected[0][image == 7.5].min() > 128


SIZES = [(1, 200, 131), (2, 97, 160), (3, 30, 21), (1, 8, 150), (1, 1, 1)]


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("block", [0, 64, 112])
def test_blocks_agree_with_the_whole(shape, block, tmp_path):
    model = predictor(unet())
    image = normal(shape)
    probabilities, uncertainty, tiles = predicted(model, volume(image), tmp_path, block=block)
    right = -shape[2] % 8
    below = -shape[1] % 8
    padded = np.pad(image, ((0, 0), (0, below), (0, right)), mode="edge")
    with torch.no_grad(), in_domain(model.network, "source"):
        whole = (
            model.network(torch.from_numpy(padded)[:, None])
            .softmax(1)[..., : shape[1], : shape[2]]
            .numpy()
        )
    assert np.abs(probabilities[0].astype(int) - as_bytes(whole[:, 1])).max() <= 1
    expected = scipy_entropy(whole.astype(float), base=2, axis=1)
    assert np.abs(uncertainty.astype(int) - as_bytes(expected)).max() <= 2
    assert (tiles > shape[0]) == (0 < block < max(shape))


def unet_with_objects():
    model = unet()
    model.add_object_head()
    # Of either sign, so that some distances are cut off at 0 and at 1.
    torch.nn.init.normal_(model.object_head.weight, 0, 0.5)
    return model


@pytest.mark.parametrize("block", [0, 64])
def test_maps_of_objects_are_stored_beside_the_probabilities(block, tmp_path):
    model = predictor(unet_with_objects())
    image = normal((2, 96, 160))
    probabilities, *_ = predicted(model, volume(image), tmp_path, block=block)
    maps = StoredPrediction(RunFolder(tmp_path), "v").object_maps[:]
    with torch.no_grad(), in_domain(model.network, "source"):
        features = model.network.encode(torch.from_numpy(image)[:, None])
        logits = model.network.decode(features)
        contours, distances = model.network.object_head(model.network.decoder(features)).unbind(1)
    assert np.abs(probabilities[0].astype(int) - as_bytes(logits.softmax(1)[:, 1])).max() <= 1
    assert np.abs(maps[0].astype(int) - as_bytes(contours.sigmoid())).max() <= 1
    assert np.abs(maps[1].astype(int) - as_bytes(distances.clamp(0, 1))).max() <= 1
    assert maps.min() == 0
    assert maps.max() == 255


def test_maps_of_objects_are_averaged_over_sections_with_the_same_weights(noise):
    outputs = torch.as_tensor(noise.random((4, 5, 3, 3)), dtype=torch.float32)
    smoothed = outputs_smoothed_along_z(outputs, 3, 0.2)
    expected = ndimage.convolve1d(outputs[:, 3:].numpy(), [0.2, 0.6, 0.2], axis=0, mode="nearest")
    np.testing.assert_allclose(smoothed[:, 3:], expected, rtol=1e-5)
    assert torch.equal(smoothed[:, :3], smoothed_along_z(outputs[:, :3], 0.2))
    assert torch.equal(outputs_smoothed_along_z(outputs, 3, 0.0), outputs)


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("block", [0, 40])
@pytest.mark.parametrize("flips", ["off", "on"])
def test_a_network_that_does_nothing_reproduces_the_image(shape, block, flips, tmp_path):
    image = normal(shape)
    probabilities, *_ = predicted(
        predictor(Identity()), volume(image), tmp_path, block=block, flips=flips
    )
    assert probabilities.shape == (1, *shape)
    assert np.abs(probabilities[0] - 255 * expit(image)).max() < 0.51


def test_sections_come_in_batches_the_last_one_partial(tmp_path):
    image = normal((30, 96, 96))
    events = list(
        predict(
            predictor(Identity()), volume(image), PredictSettings(memory=0.05), RunFolder(tmp_path)
        )
    )
    section_counts = [Box.from_bounds(event.box).shape[0] for event in events[:-1]]
    assert section_counts[0] > section_counts[-1] > 1
    probabilities = StoredPrediction(RunFolder(tmp_path), "v").probabilities[:]
    assert np.abs(probabilities[0] - 255 * expit(image)).max() < 0.51


def test_a_flipped_copy_each_way_is_averaged():
    model = predictor(unet())
    image = torch.from_numpy(normal((1, 1, 32, 32)))
    with torch.no_grad():
        copies = [
            np.flip(model.network(image.flip(a)).softmax(1).numpy(), a)
            for a in ((), (2,), (3,), (2, 3))
        ]
    np.testing.assert_allclose(
        model.probabilities(image, "source", flips=True), np.mean(copies, 0), atol=1e-6
    )


def test_the_domains_own_statistics_are_used():
    network = unet()
    model = predictor(network)
    image = torch.from_numpy(normal((1, 1, 32, 32)))
    source, target = (model.probabilities(image, domain) for domain in ("source", "target"))
    assert not torch.allclose(source, target, atol=1e-3)
    model.header = model.header.model_copy(update={"prediction_domain": "target"})
    assert model.domain_of(volume(normal((1, 8, 8)))) == "target"
    assert (
        model.domain_of(Volume("s", normal((1, 8, 8)), "source", VoxelGrid((1, 1, 1)))) == "source"
    )


def test_grey_values_are_standardised_as_in_training_or_as_measured_now(tmp_path):
    image = normal((1, 40, 40)) * 20 + 100
    first = predictor(Identity(), statistics=Statistics(90.0, 10.0, ()))
    probabilities, *_ = predicted(first, volume(image), tmp_path / "known")
    assert np.abs(probabilities[0] - 255 * expit((image - 90) / 10)).max() < 0.6
    new = predictor(Identity(), statistics=None)
    probabilities, *_ = predicted(new, volume(image), tmp_path / "new")
    assert np.abs(probabilities[0] - 255 * expit((image - image.mean()) / image.std())).max() < 0.6


# -- the volume's own pixel size -------------------------------------------------------------------


@pytest.mark.parametrize("pixel_size", [2.0, 8.0, 10.0, 9.3])
@pytest.mark.parametrize("shape", [(2, 101, 67), (1, 40, 40), (1, 3, 90)])
@pytest.mark.parametrize("block", [0, 32])
def test_a_constant_stays_constant_at_the_volumes_own_size(pixel_size, shape, block, tmp_path):
    model = predictor(Identity(), pixel_size=pixel_size)
    # Of models that know a background, it would be that.
    model.header = model.header.model_copy(update={"method": "iic"})
    probabilities, uncertainty, _ = predicted(
        model, volume(np.full(shape, 1.5)), tmp_path, block=block
    )
    assert probabilities.shape == (1, *shape)
    assert uncertainty.shape == shape
    assert (probabilities == round(255 * expit(1.5))).all()


@pytest.mark.parametrize("block", [0, 32])
def test_a_coarser_network_sees_bins_and_its_answer_is_interpolated(block, tmp_path):
    image = normal((1, 90, 120))
    model = predictor(Identity(), pixel_size=12.0)
    probabilities, *_ = predicted(model, volume(image), tmp_path, block=block)
    binned = expit(image[0].reshape(30, 3, 40, 3).mean((1, 3)))
    expected = ndimage.zoom(binned, 3, order=1, mode="nearest", grid_mode=True)
    assert np.abs(probabilities[0, 0] - 255 * expected).max() < 0.6


@pytest.mark.parametrize("pixel_size", [2.5, 4.0, 6.0, 9.3])
def test_at_any_pixel_size_blocks_agree_with_the_whole(pixel_size, tmp_path):
    target = volume(normal((1, 390, 410)))
    model = predictor(unet(), pixel_size=pixel_size)
    whole, whole_uncertainty, _ = predicted(model, target, tmp_path / "whole", block=8192)
    for block in (round(370 * 4 / pixel_size + 1), 100):
        probabilities, uncertainty, tiles = predicted(
            model, target, tmp_path / str(block), block=block
        )
        assert tiles >= 4
        assert np.abs(probabilities.astype(int) - whole).max() <= 1
        assert np.abs(uncertainty.astype(int) - whole_uncertainty).max() <= 2


def test_a_box_on_view_is_predicted_as_in_the_whole_volume(tmp_path):
    target = volume(normal((2, 150, 170)))
    for pixel_size in (4.0, 8.0):
        model = predictor(unet(), pixel_size=pixel_size)
        probabilities, *_ = predicted(model, target, tmp_path / str(pixel_size))
        for box in (
            Box((1, 33, 41), (2, 97, 160)),
            Box((0, 0, 0), (1, 150, 170)),
            Box((1, 149, 169), (2, 150, 170)),
        ):
            seen = predict_box(model, target, box)
            inner = probabilities[(slice(None), *box.slices)][:, 0].astype(int)
            assert seen.shape == inner.shape
            assert np.abs(seen.astype(int) - inner).max() <= 1


# -- bytes -----------------------------------------------------------------------------------------


def test_entropy_is_that_of_scipy_as_a_share_of_its_maximum():
    probabilities = np.random.default_rng(0).dirichlet((1, 1, 1), (2, 5, 6))
    result = entropy(torch.from_numpy(probabilities).movedim(-1, 1))
    np.testing.assert_allclose(
        result, scipy_entropy(probabilities, axis=-1) / np.log(3), atol=1e-12
    )


@pytest.mark.parametrize(
    ("share", "nats"), [(0.5, 0.693147), (0.9, 0.325083), (1.0, 0.0), (0.0, 0.0)]
)
def test_entropy_of_known_cases(share, nats):
    natural = entropy(torch.tensor([share, 1 - share]).view(1, 2, 1, 1)) * np.log(2)
    assert float(natural) == pytest.approx(nats, abs=1e-6)


@settings(max_examples=200)
@given(st.lists(st.integers(0, 1000), min_size=3, max_size=9).filter(any))
def test_bytes_never_add_up_to_more_than_certainty(weights):
    probabilities = np.array(weights) / sum(weights)
    stored = foreground_bytes(
        torch.tensor(probabilities, dtype=torch.float32).view(1, -1, 1, 1)
    ).ravel()
    assert stored.sum() <= 255
    assert np.abs(stored - 255 * probabilities[1:]).max() <= 1 + 1e-3
    assert 255 - stored.sum() == pytest.approx(255 * probabilities[0], abs=0.51)


def test_halves_do_not_make_more_than_one():
    assert foreground_bytes(torch.tensor([0, 0.5, 0.5]).view(1, 3, 1, 1)).sum() == 255


def test_three_classes_are_stored_as_predicted(tmp_path):
    model = predictor(unet(3), classes=("background", "a", "b"))
    image = normal((1, 40, 48))
    probabilities, *_ = predicted(model, volume(image), tmp_path)
    assert probabilities.shape == (2, 1, 40, 48)
    assert probabilities.sum(0, dtype=int).max() <= 255
    expected = model.probabilities(torch.from_numpy(image)[:, None], "source")[0, 1:].numpy()
    assert np.abs(probabilities[:, 0] - 255 * expected).max() <= 1


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_infinity_are_refused_and_not_stored_as_background(value, tmp_path):
    image = normal((3, 24, 24))
    image[1, 5, 7] = value
    with pytest.raises(DataError, match="NaN or infinity in section 1 of 'v': replace NaN"):
        list(predict(predictor(Identity()), volume(image), PredictSettings(), RunFolder(tmp_path)))
    assert not StoredPrediction(RunFolder(tmp_path), "v").complete({"model": "1"})


def test_two_classes_are_rounded():
    assert to_bytes(torch.tensor([0.0, 0.25, 1.0])).tolist() == [0, 64, 255]


# -- many threads, and a device that standardises by itself ----------------------------------------


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """Read, write and standardise as beside a GPU, though the CPU computes."""
    monkeypatch.setattr(predicting, "io_threads", lambda device: 3)
    monkeypatch.setattr(predicting, "BlockReader", partial(BlockReader, on_device=True))


RANGES = tuple((10.0 * z, 200.0 + z) for z in range(3))


# Each two of the values come together once.
@pytest.mark.parametrize(
    ("dtype", "ranges", "pixel_size"),
    [
        ("uint8", (), 6.0),
        ("uint8", RANGES, 4.0),
        ("uint16", (), 4.0),
        ("uint16", RANGES, 6.0),
        ("float32", (), 6.0),
        ("float32", RANGES, 4.0),
    ],
)
def test_as_on_a_gpu_the_prediction_is_that_of_the_cpu(
    dtype, ranges, pixel_size, tmp_path, request
):
    image = np.random.default_rng(1).integers(0, 255, (3, 100, 120)).astype(dtype)
    target = Volume("v", image, "target", VoxelGrid((50.0, 4.0, 4.0)))
    statistics = Statistics(0.4 if ranges else 120.0, 0.3 if ranges else 60.0, (), ranges=ranges)
    model = predictor(unet(), pixel_size=pixel_size, statistics=statistics)
    one, uncertainty, tiles = predicted(model, target, tmp_path / "one", block=64)
    request.getfixturevalue("as_on_a_gpu")
    many, threaded_uncertainty, _ = predicted(model, target, tmp_path / "many", block=64)
    assert tiles > 10
    assert np.abs(one.astype(int) - many).max() <= 1
    assert np.abs(uncertainty.astype(int) - threaded_uncertainty).max() <= 2
    assert (one != many).mean() < 1e-3


@pytest.mark.usefixtures("as_on_a_gpu")
def test_by_many_threads_a_tile_is_announced_in_order_and_only_when_it_is_on_disk(tmp_path):
    model = predictor(Identity())
    target = volume(normal((6, 150, 150)))
    whole, _, tiles = predicted(model, target, tmp_path / "whole", block=64)
    stored = StoredPrediction(RunFolder(tmp_path / "stopped"), "v")
    boxes = []
    while len(boxes) < tiles:
        with contextlib.closing(
            predict(model, target, PredictSettings(block=64), RunFolder(tmp_path / "stopped"))
        ) as events:
            for event in itertools.islice(events, 5):
                if isinstance(event, TileDone):
                    boxes.append(Box.from_bounds(event.box))
                    where = (slice(None), *boxes[-1].slices)
                    assert np.array_equal(stored.probabilities[where], whole[where])
    assert len(set(boxes)) == len(boxes) == tiles
    assert journalled(stored) == boxes
    assert np.array_equal(stored.probabilities[:], whole)


@pytest.mark.usefixtures("as_on_a_gpu")
def test_a_tile_that_cannot_be_written_is_not_announced(tmp_path, monkeypatch):
    def writer(self, **kinds):
        def write(box, values, uncertainty, maps):
            if box.start[0] == 3:
                raise OSError("the disk is full")

        return write

    monkeypatch.setattr(StoredPrediction, "writer", writer)
    with pytest.raises(OSError, match="full"):
        list(
            predict(
                predictor(Identity()),
                volume(normal((6, 40, 40))),
                PredictSettings(block=64),
                RunFolder(tmp_path),
            )
        )
    sections = [box.start[0] for box in journalled(StoredPrediction(RunFolder(tmp_path), "v"))]
    assert sections == [0, 1, 2]


# -- stopped and continued -------------------------------------------------------------------------


def test_stopped_it_goes_on_where_it_was(tmp_path):
    model = predictor(Identity())
    target = volume(normal((3, 150, 150)))
    whole, uncertainty, tiles = predicted(model, target, tmp_path / "whole", block=64)

    events = predict(model, target, PredictSettings(block=64), RunFolder(tmp_path / "stopped"))
    first = [next(events) for _ in range(4)]
    events.close()
    boxes = [Box.from_bounds(event.box) for event in first]
    stored = StoredPrediction(RunFolder(tmp_path / "stopped"), "v")
    for box in boxes:  # what was announced is on disk
        assert np.array_equal(
            stored.probabilities[(slice(None), *box.slices)], whole[(slice(None), *box.slices)]
        )
    assert not stored.complete({"model": "1"})

    rest = [
        e
        for e in predict(model, target, PredictSettings(block=64), RunFolder(tmp_path / "stopped"))
        if isinstance(e, TileDone)
    ]
    assert [event.done for event in first + rest] == list(range(1, tiles + 1))
    assert not set(boxes) & {Box.from_bounds(event.box) for event in rest}
    assert np.array_equal(stored.probabilities[:], whole)
    assert np.array_equal(stored.uncertainty[:], uncertainty)
    assert stored.complete({"model": "1"}, uncertainty=True)


@pytest.mark.parametrize("change", ["step", "flips", "uncertainty"])
def test_it_goes_on_only_with_the_same_model_and_settings(change, tmp_path):
    target = volume(normal((1, 150, 150)))
    values = {"block": 64}
    predicted(predictor(Identity()), target, tmp_path, **values)
    other = predictor(Identity(), step=2 if change == "step" else 1)
    if change != "step":
        values[change] = "on" if change == "flips" else False
    assert not StoredPrediction(RunFolder(tmp_path), "v").complete({"model": "2"})
    *_, tiles = predicted(other, target, tmp_path, **values)
    assert tiles > 1
    assert predicted(other, target, tmp_path, **values)[2] == 0


def _cut_otherwise(prediction, *, lines):
    """Write the journal as a version did that cut the volume into two tiles, not by the chunk."""
    head = json.loads(prediction.journal.read_text().splitlines()[0])
    journal = [json.dumps({**head, "tiles": 2, "first": [0, 1, 0, 75, 0, 150]}), *lines]
    prediction.journal.write_text("\n".join(journal) + "\n")


def test_what_another_plan_has_begun_is_predicted_anew(tmp_path):
    target = volume(normal((1, 150, 150)))
    model = predictor(Identity())
    whole, _, tiles = predicted(model, target, tmp_path, block=64)
    prediction = StoredPrediction(RunFolder(tmp_path), "v")
    _cut_otherwise(prediction, lines=["0"])
    events = predict(model, target, PredictSettings(block=64), RunFolder(tmp_path))
    first = next(events)
    events.close()
    # The tiles of the other plan are gone: nothing is there but the first tile of this one.
    assert first.done == 1
    rows, columns = Box.from_bounds(first.box).slices[1:]
    stored = prediction.probabilities[0, 0]
    assert np.array_equal(stored[rows, columns], whole[0, 0, rows, columns])
    stored[rows, columns] = 0
    assert not stored.any()
    probabilities, _, left = predicted(model, target, tmp_path, block=64)
    assert left == tiles - 1
    assert np.array_equal(probabilities, whole)


def test_what_another_plan_has_completed_stays_complete(tmp_path):
    target = volume(normal((1, 150, 150)))
    model = predictor(Identity())
    whole, *_ = predicted(model, target, tmp_path, block=64)
    prediction = StoredPrediction(RunFolder(tmp_path), "v")
    _cut_otherwise(prediction, lines=["0", "1"])
    probabilities, _, tiles = predicted(model, target, tmp_path, block=64)
    assert tiles == 0
    assert np.array_equal(probabilities, whole)
    assert prediction.complete({"model": "1"}, uncertainty=True)


def test_what_an_older_version_has_begun_by_the_same_plan_goes_on(tmp_path):
    target = volume(normal((1, 150, 150)))
    model = predictor(Identity())
    whole, _, tiles = predicted(model, target, tmp_path, block=64)
    prediction = StoredPrediction(RunFolder(tmp_path), "v")
    head = json.loads(prediction.journal.read_text().splitlines()[0])
    del head["check"]
    plan = {"tiles": tiles, "first": [0, 1, 0, 64, 0, 64], "chunk": 512}
    prediction.journal.write_text(json.dumps({**head, **plan}) + '\n{"tiles": [0, 1, 5]}\n')
    assert not prediction.complete({"model": "1"})
    probabilities, _, left = predicted(model, target, tmp_path, block=64)
    assert left == tiles - 3
    assert np.array_equal(probabilities, whole)


def test_without_uncertainty_it_is_complete_but_for_that(tmp_path):
    predicted(predictor(Identity()), volume(normal((1, 20, 20))), tmp_path, uncertainty=False)
    assert StoredPrediction(RunFolder(tmp_path), "v").complete({"model": "1"})
    assert not StoredPrediction(RunFolder(tmp_path), "v").complete({"model": "1"}, uncertainty=True)


def test_a_crash_while_starting_anew_leaves_no_journal_of_the_old_tiles(tmp_path, monkeypatch):
    target = volume(normal((1, 40, 40)))
    predicted(predictor(Identity()), target, tmp_path)
    monkeypatch.setattr(zarr, "open_group", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        predicted(predictor(Identity()), target, tmp_path, flips="on")
    assert not StoredPrediction(RunFolder(tmp_path), "v").complete({"model": "1"})


@pytest.mark.parametrize("text", ["", "{", "no json\n1\n2\n"])
def test_a_damaged_journal_means_starting_anew(text, tmp_path):
    target = volume(normal((1, 40, 40)))
    predicted(predictor(Identity()), target, tmp_path)
    StoredPrediction(RunFolder(tmp_path), "v").journal.write_text(text)
    probabilities, _, tiles = predicted(predictor(Identity()), target, tmp_path)
    assert tiles == 1
    assert probabilities.any()
    assert (
        json.loads(StoredPrediction(RunFolder(tmp_path), "v").journal.read_text().splitlines()[0])[
            "model"
        ]
        == "1"
    )


@pytest.mark.parametrize("group", ["probabilities.zarr", "uncertainty.zarr"])
def test_deleted_arrays_are_predicted_anew(group, tmp_path):
    target = volume(normal((1, 40, 40)))
    model = predictor(Identity())
    before = predicted(model, target, tmp_path)
    shutil.rmtree(tmp_path / group)
    assert not StoredPrediction(RunFolder(tmp_path), "v").complete({"model": "1"})
    for old, new in zip(before, predicted(model, target, tmp_path), strict=True):
        np.testing.assert_array_equal(old, new)


def test_deleted_maps_of_objects_are_predicted_anew(tmp_path):
    target = volume(normal((1, 40, 40)))
    model = predictor(unet_with_objects())
    predicted(model, target, tmp_path)
    stored = StoredPrediction(RunFolder(tmp_path), "v")
    before = stored.object_maps[:]
    assert stored.complete({"model": "1"})
    shutil.rmtree(tmp_path / "object_maps.zarr")
    assert not stored.complete({"model": "1"})
    predicted(model, target, tmp_path)
    np.testing.assert_array_equal(stored.object_maps[:], before)
