"""A vision transformer, which may be pretrained, with a convolutional decoder."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from napari_emda.errors import JobError, SettingsError
from napari_emda.nn.layers import Doubling, initialise
from napari_emda.nn.network import Network, networks
from napari_emda.nn.normalisation import DomainBatchNorm2d
from napari_emda.nn.transformer import (
    MLP_RATIO,
    Transformer,
    for_grey,
    initialise_tokens,
    resized,
)
from napari_emda.settings import base
from napari_emda.settings.base import ADVANCED, advanced

# Width of a head of attention in all public models of this layout.
_HEAD = 64
# Blocks that learn if only the last ones do.
_LAST = 2
_FLOAT32 = 4
# Channels of the decoder at the grid of the patches, as a multiple of those at full resolution.
_COARSE = 4
# Peak memory, in maps at full resolution: joined maps (2), input and output of a convolution and
# its normalisation (3), what is kept of the finest map (1), those before the last doubling (2).
_LIVE_MAPS = 8


def _convolution(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        DomainBatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class Encoder(nn.Module):
    """Images to details at full resolution, tokens of patches, and one token of each window."""

    def __init__(self, transformer: Transformer, channels: int, features: int) -> None:
        super().__init__()
        self.transformer = transformer
        # What is smaller than a patch of the transformer.
        self.detail = nn.Sequential(
            *_convolution(channels, features), *_convolution(features, features)
        )

    def forward(self, x: Tensor, reused: Sequence[Tensor] = ()) -> list[Tensor]:
        """See `Network.encode`."""
        return list(reused) if reused else [self.detail(x), *self.transformer(x)]


class Decoder(nn.Module):
    """From tokens back to pixels, in steps of two.

    Args:
        width: of a token.
        features: at full resolution.
        doublings: from the grid of the patches, or of the windows without skips, to that of pixels.
        dropout: of the tokens.
        repeats: how often a token stands side by side before it is doubled.
        skips: whether all maps are used; if not, only the token of each window.
    """

    def __init__(
        self,
        width: int,
        features: int,
        doublings: int,
        dropout: float,
        repeats: int = 1,
        *,
        skips: bool,
    ) -> None:
        super().__init__()
        self.skips = skips
        self.repeats = repeats
        self.dropout = nn.Dropout2d(dropout)
        coarse = _COARSE * features
        self.join = _convolution(2 * width if skips else width, coarse)
        widths = [max(features, coarse // 2**level) for level in range(doublings + 1)]
        self.up = nn.ModuleList(map(Doubling, widths[:-1], widths[1:]))
        self.blocks = nn.ModuleList(
            _convolution(w + features * (skips and level == doublings - 1), w)
            for level, w in enumerate(widths[1:])
        )

    def forward(self, maps: list[Tensor]) -> Tensor:
        """The encoder's maps to B x features x H x W."""
        detail, tokens, whole = maps
        if self.skips:
            factor = tokens.shape[-1] // whole.shape[-1]
            spread = whole.repeat_interleave(factor, -1).repeat_interleave(factor, -2)
            x = torch.cat([tokens, spread], 1)
        else:
            x = whole.repeat_interleave(self.repeats, -1).repeat_interleave(self.repeats, -2)
        x = self.join(self.dropout(x))
        for level, (up, block) in enumerate(zip(self.up, self.blocks, strict=True)):
            x = up(x)
            if self.skips and level == len(self.up) - 1:
                x = torch.cat([detail, x], 1)
            x = block(x)
        return x


@networks.register("vit")
class VisionTransformer(Network):
    """Vision transformer with a convolutional decoder; its encoder may be pretrained.

    Dosovitskiy et al. 2021. The transformer sees windows, each as an image of its own; convolutions
    join them, and bring details that are smaller than its patches.
    """

    citations = ("dosovitskiy2021",)
    profiles: ClassVar = {
        "test": {"width": 32, "layers": 2, "window": 32, "patch_side": 8, "base_channels": 8},
        "standard": {"width": 384, "layers": 12, "window": 64, "base_channels": 32},
    }

    class Settings(base.Settings):
        """Settings of the vision transformer."""

        weights: str = Field(
            "",
            title="pretrained weights",
            description="A safetensors file with the weights of a vision transformer, named as "
            "timm and DINOv2 do; it sets width, layers and registers. Left empty, the encoder "
            "learns from nothing, which takes many labels.",
            examples=["vit_small_em.safetensors"],
            json_schema_extra=ADVANCED,
        )
        weights_sha256: str = Field(
            "",
            max_length=64,
            title="its SHA-256",
            description="What the file of the pretrained encoder must have, if it is given; a "
            "model says what it was trained with.",
            examples=["9f86d081"],
            json_schema_extra=ADVANCED,
        )
        weights_licence: str = Field(
            "",
            max_length=100,
            title="its licence",
            description="Licence of the pretrained encoder, which a model carries on; left empty, "
            "what its file says.",
            examples=["CC-BY-4.0"],
            json_schema_extra=ADVANCED,
        )
        weights_source: str = Field(
            "",
            max_length=200,
            title="its source",
            description="Where the pretrained encoder is from, which a model carries on; left "
            "empty, what its file says.",
            examples=["https://example.org/em-encoder"],
            json_schema_extra=ADVANCED,
        )
        learning: Literal["auto", "all", "last", "decoder"] = Field(
            "auto",
            title="what learns",
            description="All of the network, the last two blocks of the transformer and the "
            "decoder, or the decoder alone; 'auto' is 'last' with a pretrained encoder, and else "
            "'all'. Choose 'decoder' with few labels.",
            json_schema_extra=ADVANCED,
        )
        base_channels: int = Field(
            16,
            ge=8,
            le=64,
            multiple_of=8,
            title="width of the decoder",
            description="Features of the decoder at full resolution.",
            json_schema_extra=advanced(8),
        )
        width: int = Field(
            192,
            ge=16,
            le=1536,
            multiple_of=16,
            title="width of a token",
            description="Features of a token of the transformer.",
            json_schema_extra=advanced(16),
        )
        layers: int = Field(
            6,
            ge=1,
            le=48,
            title="layers",
            description="Blocks of the transformer, one after the other.",
            json_schema_extra=advanced(1),
        )
        patch_side: int = Field(
            8,
            ge=8,
            le=16,
            multiple_of=8,
            title="side of a token",
            description="Side of the squares of pixels that become a token. A pretrained encoder "
            "with another side is resized to it.",
            json_schema_extra=advanced(8, "pixels"),
        )
        window: int = Field(
            64,
            ge=32,
            le=512,
            multiple_of=32,
            title="window",
            description="Side of what the transformer sees at once, in pixels, of which the side "
            "of a patch must be a multiple. Pretrained encoders want 128 or more.",
            json_schema_extra=advanced(32, "pixels"),
        )
        registers: int = Field(
            0,
            ge=0,
            le=16,
            title="registers",
            description="Tokens of a pretrained encoder that belong to no place.",
            json_schema_extra=advanced(1),
        )
        dropout: float = Field(
            0.25,
            ge=0,
            le=0.9,
            title="dropout",
            description="Fraction of the features of tokens that the decoder does without at "
            "random. Some strategies measure uncertainty by it.",
            json_schema_extra=advanced(0.05),
        )

    def __init__(self, classes: int, settings: Any = None, channels: int = 1) -> None:
        super().__init__(classes, settings, channels)
        s = self.settings
        heads = max(1, s.width // _HEAD)
        if s.width % heads:
            raise SettingsError(
                f"A token of {s.width} features has no whole heads of {_HEAD}: choose a multiple "
                f"of {_HEAD} for width."
            )
        grid = s.window // s.patch_side
        transformer = Transformer(
            channels, s.width, s.layers, heads, s.patch_side, grid, s.registers
        )
        self.encoder = Encoder(transformer, channels, s.base_channels)
        self.decoder = self.make_decoder()
        self.head = nn.Conv2d(s.base_channels, classes, 1)
        initialise(self)
        initialise_tokens(transformer)
        self._freeze()

    def _freeze(self) -> None:
        transformer: Any = self.encoder.transformer
        learning = self.settings.learning
        if learning == "auto":
            learning = "last" if self.settings.weights else "all"
        if learning == "all":
            return
        transformer.requires_grad_(False)
        if learning == "last":
            transformer.norm.requires_grad_(True)
            for block in transformer.blocks[-_LAST:]:
                block.requires_grad_(True)

    @property
    def widths(self) -> tuple[int, ...]:
        """Details, tokens of patches, tokens of windows."""
        return (self.settings.base_channels, self.settings.width, self.settings.width)

    @property
    def stride(self) -> int:
        """A window."""
        return int(self.settings.window)

    @property
    def halo(self) -> int:
        """The window and what the decoder's convolutions see of the next ones, rounded up."""
        side = self.settings.patch_side
        # A 3 x 3 convolution at each scale, from the tokens to the pixels, and the grid of each.
        beyond = side + sum(side // 2**level for level in range(1, side.bit_length())) + side
        return -(-(self.stride - 1 + beyond) // self.stride) * self.stride

    @property
    def reusable(self) -> int:
        """All maps: only the decoder has dropout."""
        return len(self.widths)

    @property
    def bytes_per_pixel(self) -> int:
        """Of the decoder at full resolution, or of the transformer if it is wider than that."""
        s = self.settings
        fine = _LIVE_MAPS * s.base_channels
        # A token with its hidden layer, twice, and queries, keys and values, beside what is kept.
        tokens = (2 * MLP_RATIO + 5) * s.width / s.patch_side**2 + 3 * s.base_channels
        return math.ceil(max(fine, tokens) * _FLOAT32) + 3 * (self.channels - 1) * _FLOAT32

    def make_decoder(self, *, skips: bool = True) -> Decoder:
        """Another decoder; without skips, from the token of each window alone."""
        s = self.settings
        side = s.patch_side if skips else s.window
        # The largest power of two in it: a window of 96 pixels is 3 x 32.
        even = side & -side
        return Decoder(
            s.width, s.base_channels, even.bit_length() - 1, s.dropout, side // even, skips=skips
        )

    def take_weights(self, tensors: Mapping[str, Tensor]) -> None:
        """Initialise the encoder with the weights of a vision transformer.

        Args:
            tensors: by name, as timm's ``VisionTransformer`` and DINOv2 have them.

        Raises:
            JobError: they are those of another architecture.
        """
        transformer: Any = self.encoder.transformer
        values = dict(tensors)
        own = transformer.state_dict()
        kernel = values["patch_embed.proj.weight"].float()
        values["patch_embed.proj.weight"] = for_grey(kernel, own["patch_embed.proj.weight"])
        values["pos_embed"] = resized(values["pos_embed"].float(), transformer.grid)
        for name, tensor in own.items():
            # Models without scaled layers, or without biases of queries, keys and values.
            if name.endswith((".gamma", "qkv.bias")):
                values.setdefault(name, tensor)
        wrong = next((n for n in own if n not in values or values[n].shape != own[n].shape), None)
        if wrong is not None:
            raise JobError(
                f"The pretrained encoder is no plain vision transformer as timm names it: "
                f"'{wrong}' is missing or has another shape; choose another file."
            )
        transformer.load_state_dict({name: values[name].float() for name in own})
