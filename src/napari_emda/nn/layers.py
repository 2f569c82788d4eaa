"""Layers that several networks use."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d, nn.Conv3d, nn.ConvTranspose3d)


class Doubling(nn.ConvTranspose2d):
    """Transposed convolution, 2 x 2 with stride 2: B x C x H x W to B x C' x 2H x 2W."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 2, stride=2)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Map every pixel to a square of four."""
        n, channels, height, width = x.shape
        assert self.bias is not None
        # The windows do not overlap, so this is one matrix product over the channels. On a CPU and
        # in bfloat16 it is faster than torch's transposed convolution.
        matrix = self.weight.permute(2, 3, 1, 0).reshape(-1, channels)
        pixels = F.linear(x.movedim(1, -1), matrix, self.bias.repeat(4))
        blocks = pixels.view(n, height, width, 2, 2, self.out_channels).transpose(2, 3)
        return blocks.reshape(n, 2 * height, 2 * width, self.out_channels).movedim(-1, 1)


def lay_channels_last(module: nn.Module) -> None:
    """Store weights in the order in which convolutions are fastest, on CPUs and tensor cores."""
    for parameter in module.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        elif parameter.ndim == 5:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last_3d)


def middle(image: Tensor) -> Tensor:
    """The middle channel, B x 1 x H x W: the section itself, of those that a network sees."""
    channel = image.shape[1] // 2
    return image[:, channel : channel + 1]


def initialise(module: nn.Module) -> None:
    """Draw the weights of all convolutions for layers with ReLU (He et al. 2015); biases are 0."""
    for layer in module.modules():
        if isinstance(layer, _CONVOLUTIONS):
            # A network without memory, built to count its weights: to draw none of them, torch
            # would load its compiler, which takes a second.
            if layer.weight.is_meta:
                continue
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
