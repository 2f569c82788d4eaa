"""With neighbouring sections, a volume is predicted as each section alone with its stack."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from napari_emda.data.box import Box
from napari_emda.data.intensity import Statistics
from napari_emda.data.volume import Volume
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.events import Notice
from napari_emda.inference import predict_tiles as predicting
from napari_emda.inference.device import Compute
from napari_emda.inference.model_header import ModelHeader
from napari_emda.inference.predict import predict
from napari_emda.inference.predictor import Predictor, predict_box
from napari_emda.inference.tiles import BlockReader
from napari_emda.nn.networks.unet import UNet
from napari_emda.nn.normalisation import norms
from napari_emda.project.run_folder import RunFolder
from napari_emda.project.stored_prediction import StoredPrediction
from napari_emda.settings.prediction import PredictSettings
from tests.data.test_context import Counting

AS_IT_IS = Statistics(0.0, 1.0, (0.0,))
CPU = Compute(torch.device("cpu"), bf16=False)
DEPTH = 11
# Memory for some of the sections at a time, in GiB.
LITTLE = {"memory": 0.05}


def predictor(context, *, distance=50.0, pixel_size=4.0, spoilt=(), z_smoothing=0.0):
    torch.manual_seed(0)
    network = UNet(2, UNet.Settings(base_channels=8, dropout=0.0), 2 * context + 1)
    for layer in norms(network):
        layer.running_mean.normal_(0, 0.1)
        layer.running_var.uniform_(0.5, 2)
    header = ModelHeader(
        method="auto",
        classes=("background", "a"),
        network=network.config,
        pixel_size=pixel_size,
        statistics={"v": AS_IT_IS},
        context=context,
        section_distance=distance,
        spoilt={"v": spoilt} if spoilt is not None else {},
        z_smoothing=z_smoothing,
    )
    return Predictor(network.eval(), header, CPU)


def image_of(shape=(DEPTH, 132, 150)):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def volume(image, section=50.0):
    return Volume("v", image, "target", VoxelGrid((section, 4.0, 4.0)))


def predicted(model, target, folder, **values):
    settings = PredictSettings.parse({"uncertainty": False, "flips": "off", **values})
    events = list(predict(model, target, settings, RunFolder(folder)))
    prediction = StoredPrediction(RunFolder(folder), "v").probabilities[:]
    return prediction[0].astype(int), events


def alone(model, image, sections, weight=0.0):
    """255 times the foreground of every section, each predicted by itself with its stack.

    Args:
        model: at the image's pixel size.
        image: (z, y, x).
        sections: of each section, those that it is seen with.
        weight: of each neighbour when smoothing along z.
    """
    _, height, width = image.shape
    padded = np.pad(image, ((0, 0), (0, -height % 8), (0, -width % 8)), mode="edge")
    logits = []
    with torch.no_grad():
        for row in sections:
            logits.append(model.network(torch.from_numpy(padded[list(row)])[None])[0].double())
    stacked = torch.stack(logits)
    if weight:
        # Logits differ from logarithms of probabilities by what softmax takes away again.
        logs = stacked.log_softmax(1)
        before, after = torch.cat([logs[:1], logs[:-1]]), torch.cat([logs[1:], logs[-1:]])
        stacked = (1 - 2 * weight) * logs + weight * (before + after)
    return 255 * stacked.softmax(1)[:, 1, :height, :width].numpy()


def stacks(steps, depth=DEPTH):
    """Sections at these steps from each one, mirrored at the ends."""
    mirrored = np.pad(np.arange(depth), 20, mode="reflect")
    return [[int(mirrored[z + step + 20]) for step in steps] for z in range(depth)]


CASES = [
    (1, 50.0, (-1, 0, 1)),
    (2, 50.0, (-2, -1, 0, 1, 2)),
    (1, 20.0, (-3, 0, 3)),
    (2, 20.0, (-5, -3, 0, 3, 5)),
]


@pytest.mark.parametrize(("context", "section", "steps"), CASES)
@pytest.mark.parametrize(("values", "tiles"), [({"block": 256}, 11), (LITTLE, 2), ({}, 1)])
@pytest.mark.parametrize("z_smoothing", [0.0, 0.21])
def test_a_volume_is_predicted_as_each_section_alone(
    context, section, steps, values, tiles, z_smoothing, tmp_path
):
    image = image_of()
    counting = Counting(image)
    model = predictor(context, z_smoothing=z_smoothing)
    probabilities, events = predicted(model, volume(counting, section), tmp_path, **values)
    assert sorted(counting.read) == list(range(DEPTH)), "not every section is read once"
    assert len(events) == tiles + 1
    assert not [event for event in events if isinstance(event, Notice)]
    expected = alone(model, image, stacks(steps), z_smoothing)
    assert np.abs(probabilities - expected).max() < 0.6


@pytest.mark.parametrize("block", [64, 112])
def test_blocks_and_their_order_change_nothing(block, tmp_path):
    image = image_of((5, 130, 150))
    model = predictor(2)
    whole, _ = predicted(model, volume(image, 20.0), tmp_path / "whole")
    blocks, events = predicted(model, volume(image, 20.0), tmp_path / "blocks", block=block)
    assert len(events) > 6
    assert np.abs(whole - blocks).max() <= 1
    # The dock's preview of a box reads the same sections.
    box = Box((3, 20, 30), (4, 90, 140))
    preview = predict_box(model, volume(image, 20.0), box)[0]
    assert np.abs(preview - whole[box.slices][0]).max() <= 1


def test_stopped_and_continued_it_is_the_same(tmp_path):
    image = image_of()
    model = predictor(2)
    whole, _ = predicted(model, volume(image), tmp_path / "whole", block=256)
    settings = PredictSettings(uncertainty=False, flips="off", block=256)
    events = predict(model, volume(image), settings, RunFolder(tmp_path / "parts"))
    next(events), next(events)
    events.close()
    parts, _ = predicted(model, volume(image), tmp_path / "parts", block=256)
    np.testing.assert_array_equal(parts, whole)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_a_device_that_standardises_by_itself_gets_the_same(dtype, tmp_path, monkeypatch):
    image = (40 * image_of() + 120).clip(0, 255).astype(dtype)
    model = predictor(1)
    statistics = Statistics(120.0, 40.0, (0.0,), limits=(10.0, 240.0))
    model.header = model.header.model_copy(update={"statistics": {"v": statistics}})
    expected, _ = predicted(model, volume(image), tmp_path / "host", block=256)
    monkeypatch.setattr(predicting, "io_threads", lambda device: 3)
    monkeypatch.setattr(predicting, "BlockReader", partial(BlockReader, on_device=True))
    probabilities, _ = predicted(model, volume(image), tmp_path / "device", block=256)
    assert np.abs(probabilities - expected).max() <= 1


# -- sections that are missing ---------------------------------------------------------------------


@pytest.fixture
def tissue():
    """Sections that change slowly, as the probabilities of a network on them do."""
    along = np.linspace(0, 2 * np.pi, DEPTH)[:, None, None]
    plane = np.random.default_rng(1).normal(size=(1, 64, 64))
    other = np.random.default_rng(2).normal(size=(1, 64, 64))
    return (np.cos(along / 4) * plane + np.sin(along / 4) * other).astype(np.float32)


def test_a_black_section_is_found_said_and_hardly_changes_its_neighbours(tissue, tmp_path):
    black = tissue.copy()
    black[5] = 0
    target = volume(black)
    # A volume that took no part in the training is looked at before it is predicted.
    finding = predictor(1, spoilt=None)
    finding.header = finding.header.model_copy(update={"statistics": {"v": AS_IT_IS}})
    found, events = predicted(finding, target, tmp_path / "found")
    sentences = [event.text for event in events if isinstance(event, Notice)]
    assert len(sentences) == 1
    assert sentences[0].startswith("Section 5 of 'v' is empty")
    intact, _ = predicted(predictor(1), volume(tissue), tmp_path / "intact")
    blind, events = predicted(predictor(1), target, tmp_path / "blind")
    assert not [event for event in events if isinstance(event, Notice)]
    neighbours = [4, 6]
    harm = np.abs(blind - intact)[neighbours].mean()
    assert np.abs(found - intact)[neighbours].mean() < harm / 3
    others = [z for z in range(DEPTH) if z not in (4, 5, 6)]
    np.testing.assert_array_equal(found[others], intact[others])


def test_a_single_section_is_its_own_neighbour(tmp_path):
    image = image_of((1, 40, 48))
    model = predictor(2, spoilt=None)
    probabilities, events = predicted(model, volume(image), tmp_path)
    assert "has only one section" in events[0].text
    expected = alone(model, image, [[0] * 5])
    assert np.abs(probabilities - expected).max() < 0.6
