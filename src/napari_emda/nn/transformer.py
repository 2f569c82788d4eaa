"""A plain vision transformer that sees windows; modules are named as in timm and DINOv2."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MLP_RATIO = 4
"""How much wider the hidden layer of a block is than a token, in all public models."""
_LAYER_NORM_EPS = 1e-6
# Standard deviation of new weights (Dosovitskiy et al. 2021).
_INITIAL = 0.02


class Attention(nn.Module):
    """Self-attention with all tokens of a window."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Windows x tokens x width."""
        count, tokens, width = x.shape
        heads = self.qkv(x).view(count, tokens, 3, self.heads, width // self.heads)
        q, k, v = heads.permute(2, 0, 3, 1, 4).unbind(0)
        seen = F.scaled_dot_product_attention(q, k, v)
        return self.proj(seen.transpose(1, 2).reshape(count, tokens, width))


class Mlp(nn.Module):
    """Two layers for each token."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, MLP_RATIO * width)
        self.fc2 = nn.Linear(MLP_RATIO * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Windows x tokens x width."""
        return self.fc2(F.gelu(self.fc1(x)))


class LayerScale(nn.Module):
    """A factor for each feature, as DINOv2 has it; 1 in models without."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Windows x tokens x width."""
        return x * self.gamma


class Block(nn.Module):
    """Attention and two layers, each normalised before and added."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, _LAYER_NORM_EPS)
        self.attn = Attention(width, heads)
        self.ls1 = LayerScale(width)
        self.norm2 = nn.LayerNorm(width, _LAYER_NORM_EPS)
        self.mlp = Mlp(width)
        self.ls2 = LayerScale(width)

    def forward(self, x: Tensor) -> Tensor:
        """Windows x tokens x width."""
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


class PatchEmbedding(nn.Module):
    """Patches of pixels to tokens."""

    def __init__(self, channels: int, width: int, side: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, width, side, stride=side)

    def forward(self, x: Tensor) -> Tensor:
        """B x C x H x W to B x width x H / side x W / side."""
        return self.proj(x)


class Transformer(nn.Module):
    """A plain vision transformer that sees windows; names are those of timm and DINOv2."""

    def __init__(
        self,
        channels: int,
        width: int,
        layers: int,
        heads: int,
        side: int,
        grid: int,
        registers: int,
    ) -> None:
        super().__init__()
        self.grid = grid
        self.patch_embed = PatchEmbedding(channels, width, side)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + grid**2, width))
        if registers:
            self.register_tokens = nn.Parameter(torch.zeros(1, registers, width))
        self.registers = registers
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width, _LAYER_NORM_EPS)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Images to the tokens of patches, and the one of each window.

        Args:
            x: B x C x H x W, sides multiples of a window.

        Returns:
            B x width x rows x columns of patches, and B x width x rows x columns of windows.
        """
        patches = self.patch_embed(x)
        batch, width, rows, columns = patches.shape
        g = self.grid
        windows = patches.view(batch, width, rows // g, g, columns // g, g)
        tokens = windows.permute(0, 2, 4, 3, 5, 1).reshape(-1, g * g, width)
        tokens = tokens + self.pos_embed[:, 1:]
        first = [(self.cls_token + self.pos_embed[:, :1]).expand(tokens.shape[0], -1, -1)]
        if self.registers:
            first.append(self.register_tokens.expand(tokens.shape[0], -1, -1))
        tokens = torch.cat([*first, tokens], 1)
        for block in self.blocks:
            tokens = block(tokens)
        tokens = self.norm(tokens)
        whole = tokens[:, 0].view(batch, rows // g, columns // g, width).permute(0, 3, 1, 2)
        tokens = tokens[:, 1 + self.registers :]
        tokens = tokens.reshape(batch, rows // g, columns // g, g, g, width)
        return tokens.permute(0, 5, 1, 3, 2, 4).reshape(batch, width, rows, columns), whole


def initialise_tokens(transformer: Transformer) -> None:
    """Draw the weights of tokens, positions and layers; biases are 0."""
    for name, parameter in transformer.named_parameters():
        # On the meta device nothing is drawn, see `layers.initialise`.
        if parameter.is_meta:
            continue
        if name.endswith("weight") and parameter.ndim == 2:
            nn.init.trunc_normal_(parameter, std=_INITIAL)
        elif name.endswith("bias"):
            nn.init.zeros_(parameter)
        elif "token" in name or name == "pos_embed":
            nn.init.trunc_normal_(parameter, std=_INITIAL)


def for_grey(kernel: Tensor, own: Tensor) -> Tensor:
    """The first layer for grey images and for another side of a token.

    A grey image is the same in all colours, so their weights add up. Neighbouring sections begin
    without weight.
    """
    side = own.shape[-1]
    grey = kernel.sum(1, keepdim=True)
    if grey.shape[-1] != side:
        # A larger kernel sums over more pixels, which count less each.
        scale = (grey.shape[-1] / side) ** 2
        grey = scale * F.interpolate(grey, (side, side), mode="bicubic", antialias=True)
    result = torch.zeros(len(grey), *own.shape[1:])
    result[:, own.shape[1] // 2] = grey[:, 0]
    return result


def resized(positions: Tensor, grid: int) -> Tensor:
    """Embeddings of positions, 1 x (1 + N) x D or 1 x N x D, for another grid."""
    count = positions.shape[1]
    has_first = math.isqrt(count) ** 2 != count
    first = positions[:, :1] if has_first else torch.zeros_like(positions[:, :1])
    places = positions[:, int(has_first) :]
    side = math.isqrt(places.shape[1])
    places = places[:, : side * side].transpose(1, 2).unflatten(2, (side, side))
    if side != grid:
        places = F.interpolate(places, (grid, grid), mode="bicubic", antialias=True)
    return torch.cat([first, places.flatten(2).transpose(1, 2)], 1)
