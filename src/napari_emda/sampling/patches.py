"""A batch of patches, as a network is trained on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor

from napari_emda.data.volume import Domain
from napari_emda.objects.borders import STEPS


@dataclass(frozen=True)
class Patches:
    """A batch of one domain.

    Attributes:
        image: input of the network, B x channels x H x W float32, standardised. One channel, or
            one for each section that is seen (`data.context`), with the patch in the middle one.
        labels: class ids or IGNORE, B x H x W int64.
        clean: the image before contrast, blur and noise are changed (target of a reconstruction).
        borders: distances in pixels to the border of the object, B x H x W float32, with the signs
            of `objects.borders`; None unless objects are learnt.
        taught: what a teacher predicts of the classes but the background, B x (C - 1) x H x W
            float32 between 0 and 1; None unless there is one.
    """

    image: Tensor
    labels: Tensor
    clean: Tensor
    borders: Tensor | None = None
    taught: Tensor | None = None

    def map(self, change: Callable[[Tensor], Tensor]) -> Patches:
        """The batch with ``change`` applied to every tensor."""
        image = change(self.image)
        # As a rule both are one tensor: it is changed, or copied to a device, only once.
        clean = image if self.clean is self.image else change(self.clean)
        borders = None if self.borders is None else change(self.borders)
        taught = None if self.taught is None else change(self.taught)
        return Patches(image, change(self.labels), clean, borders, taught)

    def with_image(self, image: Tensor) -> Patches:
        """The same places with another image, which also is the clean one."""
        return replace(self, image=image, clean=image)


def with_borders(patches: Patches, codes: Tensor) -> Patches:
    """The patches with borders from their codes, B x H x W."""
    return replace(patches, borders=codes.float() / STEPS)


Batch = dict[Domain, Patches]
