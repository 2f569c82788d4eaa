"""Consecutive sections as stacks, and their maps back in order; by brute force."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from napari_emda.inference.section_stacks import SectionStacks
from napari_emda.nn.network import NetworkConfig
from napari_emda.nn.stacks import Stacked, as_sections, as_volumes, in_stacks_of


class Pooling(Stacked):
    """Means of so many consecutive sections of a stack; notes the stacks that it has seen."""

    def __init__(self, sections):
        super().__init__()
        self.sections = sections
        self.seen = []

    def forward(self, image):
        volumes = as_volumes(image, self.stack)
        self.seen = volumes[:, 0, :, 0, 0].tolist()
        return as_sections(nn.functional.avg_pool3d(volumes, (self.sections, 1, 1)))


@given(st.integers(1, 40), st.integers(1, 4), st.integers(1, 3))
def test_each_section_is_in_a_stack_of_its_own_phase(count, step, power):
    multiple = 2**power
    network = Pooling(multiple)
    stacks = SectionStacks(step, multiple, halo=1)
    image = torch.arange(float(count)).view(-1, 1, 1, 1)
    with stacks.around(network, image) as (seen, each_section):
        maps = each_section(network(seen))[:, 0, 0, 0].tolist()
        identity = each_section(seen)[:, 0, 0, 0].tolist()
    assert identity == list(range(count))
    assert network.stack == 1
    assert len(network.seen) == step
    for phase, sections in enumerate(network.seen):
        wanted = list(range(phase, count, step))
        assert sections[: len(wanted)] == wanted
        # The last one is repeated, up to the grid of the poolings.
        assert len(sections) % multiple == 0
        if wanted:
            assert set(sections[len(wanted) :]) <= {wanted[-1]}
    for z in range(count):
        cell = z // step // multiple
        members = network.seen[z % step][cell * multiple : (cell + 1) * multiple]
        assert maps[z] == pytest.approx(np.mean(members))


@given(
    st.integers(1, 4), st.integers(0, 3), st.integers(0, 20), st.integers(1, 60), st.integers(0, 2)
)
def test_a_span_begins_on_the_grid_and_holds_the_halo(step, power, halo, depth, more):
    stacks = SectionStacks(step, 2**power, halo)
    for first in range(0, depth, 7):
        stop = min(first + 5, depth)
        low, high = stacks.span(first, stop, depth, more)
        assert low % (step * 2**power) == 0
        assert 0 <= low <= max(0, first - more - halo)
        assert high == min(depth, stop + more + halo)


@pytest.mark.parametrize(("ratio", "depth"), [(1.0, 3), (2.7, 3), (1.0, 4), (50.0, 3)])
def test_nothing_beyond_the_halo_of_sections_changes_a_logit(ratio, depth):
    """With positive weights no paths cancel; of equal inputs, pooling takes one."""
    settings = {"base_channels": 8, "depth": depth}
    network = NetworkConfig(
        name="unet_3d", classes=2, section_ratio=ratio, settings=settings
    ).build()
    for parameter in network.parameters():
        nn.init.constant_(parameter, 0.05 if parameter.ndim > 1 else 1.0)
    network.double().eval()
    stride = network.section_stride
    halo = network.section_halo
    sections = 2 * halo + 4 * stride
    side = network.stride
    image = torch.ones(sections, 1, side, side, dtype=torch.double, requires_grad=True)
    reach = 0
    with in_stacks_of(network, sections):
        logits = network(image)
    # At all places on the grid of the poolings.
    for z in range(sections // 2, sections // 2 + stride):
        (gradient,) = torch.autograd.grad(logits[z, 0, 3, 3], image, retain_graph=True)
        changed = gradient.abs().amax((1, 2, 3)).nonzero().flatten()
        reach = max(reach, z - int(changed.min()), int(changed.max()) - z)
    assert halo - stride <= reach <= halo


def test_levels_see_depth_as_far_as_sections_and_pixels_allow():
    """The rule of nnU-Net: thick sections are seen together at coarse levels alone."""

    def kernels(ratio, sections=16):
        settings = {"base_channels": 8, "sections": sections}
        network = NetworkConfig(
            name="unet_3d", classes=2, section_ratio=ratio, settings=settings
        ).build()
        return [block[0].kernel_size[0] for block in network.encoder.blocks]

    assert kernels(1.0) == [3, 3, 3, 3]
    assert kernels(2.7) == [1, 3, 3, 3]
    assert kernels(6.0) == [1, 1, 3, 3]
    assert kernels(100.0) == [1, 1, 1, 3]


@pytest.mark.parametrize("sections", [8, 24, 40, 56, 72, 128])
@pytest.mark.parametrize("depth", [3, 5])
def test_every_number_of_sections_is_halved_without_a_remainder(sections, depth):
    settings = {"base_channels": 8, "depth": depth, "sections": sections}
    network = NetworkConfig(name="unet_3d", classes=2, section_ratio=1.0, settings=settings).build()
    assert sections % network.section_stride == 0
    assert sections // network.section_stride >= 4
    with torch.no_grad():
        side = network.stride
        assert network(torch.zeros(sections, 1, side, side)).shape == (sections, 2, side, side)
