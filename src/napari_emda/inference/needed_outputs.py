"""Outputs of consecutive sections, which a network computes when a tile needs them, and once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


class NeededOutputs:
    """Outputs of the sections at one place, of which a tile sees the last ones of the tile before.

    Args:
        network: computes outputs of images, one entry for each section.
    """

    def __init__(self, network: Callable[[Tensor], Tensor]) -> None:
        self._network = network
        # Of the last sections: outputs, then images of those that no tile has needed yet.
        self._computed: Tensor | None = None
        self._images: list[Tensor] = []

    def compute(self, image: Tensor, overlap: int) -> Tensor:
        """Outputs of the last sections and of new ones.

        Args:
            image: of the new sections.
            overlap: number of sections before them that are wanted as well.
        """
        self._forget_all_but(overlap)
        images = [*self._images, image]
        new = self._network(images[0] if len(images) == 1 else torch.cat(images))
        self._images = []
        self._computed = new if self._computed is None else torch.cat([self._computed, new])
        return self._computed

    def skip(self, image: Tensor, overlap: int) -> None:
        """Go on without the outputs of new sections; the arguments are those of `compute`."""
        self._forget_all_but(overlap)
        self._images.append(image)

    def _forget_all_but(self, count: int) -> None:
        """Keep the last sections only."""
        kept: list[Tensor] = []
        for image in reversed(self._images):
            if count:
                kept.insert(0, image[max(0, len(image) - count) :])
                count -= len(kept[0])
        self._images = kept
        computed = self._computed
        self._computed = (
            computed[len(computed) - count :] if computed is not None and count else None
        )
