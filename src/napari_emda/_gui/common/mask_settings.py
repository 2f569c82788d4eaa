"""Settings of masks that the panels share."""

from __future__ import annotations

from dataclasses import dataclass

from napari_emda.settings.objects import SeparationSettings


@dataclass
class MaskSettings:
    """Settings of masks, in layers and in exported files; kept when another project opens.

    Attributes:
        threshold: lowest probability at which a voxel belongs to a class.
        smallest: objects with fewer pixels in a section are left out.
        separate: objects are separated at necks narrower than this share of the narrower part.
    """

    threshold: float = SeparationSettings.model_fields["threshold"].default
    smallest: int = SeparationSettings.model_fields["minimum_size"].default
    separate: float = SeparationSettings.model_fields["separate"].default

    def for_export(self) -> dict[str, float]:
        """The settings under the names that exports have for them."""
        return {
            "threshold": self.threshold,
            "minimum_size": self.smallest,
            "separate": self.separate,
        }
