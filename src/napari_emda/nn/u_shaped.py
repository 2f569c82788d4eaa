"""What all U-Nets share: their settings, and what follows from them."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from napari_emda.nn.network import Network
from napari_emda.settings import base
from napari_emda.settings.base import ADVANCED, advanced


class UShaped(Network):
    """Two convolutions per level, halved in the plane from level to level."""

    class Settings(base.Settings):
        """Settings of the U-Net."""

        renamed: ClassVar = {"base": "base_channels", "levels": "depth"}

        base_channels: int = Field(
            16,
            ge=8,
            le=64,
            multiple_of=8,
            title="width",
            description="How many features the network sees at its first level (feature maps), "
            "doubled at each further one. More can tell finer differences, and are slower.",
            json_schema_extra=advanced(8),
        )
        depth: int = Field(
            3,
            ge=3,
            le=5,
            title="depth",
            description="Number of times the network halves the resolution. Each doubles what it "
            "sees around a pixel; raise it for large structures.",
            json_schema_extra=advanced(1),
        )
        dropout: float = Field(
            0.25,
            ge=0,
            le=0.9,
            title="dropout",
            description="Fraction of feature maps that is left out at random at the two deepest "
            "levels, so that the network relies on no single one. Some strategies measure "
            "uncertainty by it.",
            json_schema_extra=advanced(0.05),
        )
        attention: bool = Field(
            False,
            title="attention",
            description="Let deep levels decide which fine details count (attention gates on the "
            "skip connections). Try it if the background is detected as structure; it is a little "
            "slower.",
            json_schema_extra=ADVANCED,
        )

    @property
    def widths(self) -> tuple[int, ...]:
        """`base_channels`, doubled from level to level."""
        return tuple(
            self.settings.base_channels * 2**level for level in range(self.settings.depth + 1)
        )

    @property
    def stride(self) -> int:
        """2 to the power of `depth`."""
        return int(2**self.settings.depth)

    @property
    def halo(self) -> int:
        """Receptive field of the convolutions and of the grid of pooling, rounded up."""
        depth = self.settings.depth
        # At level l two 3 x 3 convolutions reach 2 * 2^l pixels, on the way down and again up, and
        # once at the bottleneck.
        reach = sum(2 * 2**level for level in range(depth)) * 2 + 2 * 2**depth
        # Poolings and transposed convolutions reach less than 2^depth further by their grid.
        reach += 2**depth
        return -(-reach // self.stride) * self.stride

    @property
    def reusable(self) -> int:
        """All maps but the two deepest, which dropout changes."""
        return self.settings.depth - 1
