"""The plan: each voxel once, tiles on the chunks of the stored prediction, within the memory."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_emda.data.box import Box
from napari_emda.data.coverage import Coverage
from napari_emda.data.resampled import Resampled
from napari_emda.data.volume import Volume
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.inference.section_stacks import SectionStacks
from napari_emda.inference.tiling import plan, tiles_of
from napari_emda.nn.networks.unet import UNet
from napari_emda.project.stored_prediction import CHUNK
from napari_emda.settings.prediction import PredictSettings

PIXEL_SIZES = [2.5, 4.0, 5.1, 8.0, 9.3]


class Small:
    """What a plan asks of a network."""

    bytes_per_pixel = 256
    stride = 8
    halo = 16


def vast(shape):
    """A volume of any size that takes no memory."""
    return Volume("v", np.broadcast_to(np.float32(0), shape), "target", VoxelGrid((50.0, 4.0, 4.0)))


def chunks_of(tile):
    """Rows and columns of the chunks that a tile is written to."""
    rows, columns = tile.native.slices[1:]
    return {
        (row, column)
        for row in range(rows.start // CHUNK, (rows.stop - 1) // CHUNK + 1)
        for column in range(columns.start // CHUNK, (columns.stop - 1) // CHUNK + 1)
    }


@settings(max_examples=60)
@given(
    shape=st.tuples(st.integers(1, 5), st.integers(1, 1200), st.integers(1, 1200)),
    block=st.sampled_from([0, 32, 100, 600]),
    pixel_size=st.sampled_from(PIXEL_SIZES),
)
def test_every_voxel_is_written_once(shape, block, pixel_size):
    view = Resampled(vast(shape), pixel_size)
    written = np.zeros(shape, np.uint8)
    for tile in plan(view, Small(), PredictSettings(block=block, memory=0.05)):
        written[tile.native.slices] += 1
    assert (written == 1).all()


@pytest.mark.parametrize("pixel_size", PIXEL_SIZES)
@pytest.mark.parametrize("shape", [(3, 5000, 7001), (1, 100, 20_000), (2, 1024, 1500)])
@pytest.mark.parametrize("values", [{"block": 1400}, {"memory": 1.0}, {"memory": 0.5}])
def test_no_chunk_is_touched_by_two_tiles_of_a_section(shape, pixel_size, values):
    network = UNet(2, UNet.Settings(base_channels=16))
    tiles = plan(Resampled(vast(shape), pixel_size), network, PredictSettings(**values))
    first = [tile for tile in tiles if tile.native.start[0] == 0]
    touched = Counter(chunk for tile in first for chunk in chunks_of(tile))
    assert len(first) > 1 or shape[1] < 5000
    assert set(touched.values()) == {1}
    assert len(touched) == np.prod(-(-np.array(shape[1:]) // CHUNK))


@pytest.mark.parametrize("pixel_size", PIXEL_SIZES)
@pytest.mark.parametrize("memory", [0.05, 0.1, 0.25])
def test_in_a_small_memory_each_tile_lies_in_one_chunk_along_an_axis(pixel_size, memory):
    network = UNet(2, UNet.Settings(base_channels=32))
    view = Resampled(vast((1, 3000, 3000)), pixel_size)
    tiles = plan(view, network, PredictSettings(memory=memory))
    for tile in tiles:
        for start, stop in zip(tile.native.start[1:], tile.native.stop[1:], strict=True):
            assert start % CHUNK == 0 or start // CHUNK == (stop - 1) // CHUNK


@pytest.mark.parametrize("pixel_size", PIXEL_SIZES)
@pytest.mark.parametrize("side", [4096, 8000])
@pytest.mark.parametrize("memory", [0.1, 1.0])
def test_most_tiles_have_one_shape_and_all_have_few(side, pixel_size, memory):
    network = UNet(2, UNet.Settings(base_channels=32))
    view = Resampled(vast((1, side, side)), pixel_size)
    tiles = plan(view, network, PredictSettings(memory=memory))
    shapes = Counter(tile.seen.shape for tile in tiles)
    # The first, the inner and the last one along each axis; where the last one is narrower than
    # the halo, so is what the one before it sees.
    assert len(shapes) <= 16
    rows, columns = (len({tile.native.start[axis] for tile in tiles}) for axis in (1, 2))
    inner = max(1, rows - 3) * max(1, columns - 3)
    assert shapes.most_common(1)[0][1] >= inner


@pytest.mark.parametrize("pixel_size", PIXEL_SIZES)
@pytest.mark.parametrize(
    "shape", [(400, 300, 300), (8000, 300, 300), (2, 9000, 7000), (1, 100, 200_000)]
)
@pytest.mark.parametrize("memory", [0.1, 0.5])
def test_memory_is_bounded_whatever_the_volume(shape, memory, pixel_size):
    network = UNet(2, UNet.Settings(base_channels=8))
    tiles = plan(Resampled(vast(shape), pixel_size), network, PredictSettings(memory=memory))
    bytes_of_feature_maps = max(tile.seen.size for tile in tiles) * network.bytes_per_pixel
    assert bytes_of_feature_maps <= memory * 2**30
    largest = np.max([tile.native.shape for tile in tiles], axis=0)
    assert len(tiles) <= 4 * np.prod(np.ceil(np.array(shape) / largest)) + 4


@pytest.mark.parametrize("pixel_size", PIXEL_SIZES)
@pytest.mark.parametrize("block", [40, 512, 1024])
def test_the_network_sees_the_halo_around_all_that_is_written(pixel_size, block):
    view = Resampled(vast((1, 1300, 1700)), pixel_size)
    for tile in plan(view, Small(), PredictSettings(block=block)):
        for axis in (1, 2):
            low = tile.native.start[axis] * view.scale[axis - 1]
            high = tile.native.stop[axis] * view.scale[axis - 1]
            assert tile.seen.start[axis] % Small.stride == 0
            assert tile.seen.start[axis] <= max(0, low - Small.halo)
            assert tile.seen.stop[axis] >= min(view.shape[axis], high + Small.halo)


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("memory", [0.05, 1.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_tiles_of_a_part_hold_it_once_and_little_else(seed, memory, together):
    shape = (6, 1400, 1100)
    view = Resampled(vast(shape), 4.0)
    network = UNet(2, UNet.Settings(base_channels=8))
    stacks = SectionStacks(multiple=2, halo=1) if together else SectionStacks()
    wanted = Coverage.nothing(shape, CHUNK)
    wanted.cells[:] = np.random.default_rng(seed).random(wanted.cells.shape) < 0.2
    planned = plan(view, network, PredictSettings(memory=memory), 0, stacks)
    tiles = tiles_of(planned, wanted, view, network, 0, stacks)
    written = np.zeros(shape, np.uint8)
    for tile in tiles:
        written[tile.native.slices] += 1
        assert wanted.touches(tile.native)
        assert tile.seen.clip_to(tile.native) == tile.native
    inside = wanted.inside(Box.whole(shape))
    if together:
        assert written.max() == 1
        assert written[inside].all()
    else:
        np.testing.assert_array_equal(written, inside)
    assert tiles_of(planned, Coverage.of(shape, [Box.whole(shape)]), view, network) == planned
    assert tiles_of(planned, Coverage.nothing(shape, CHUNK), view, network) == []
