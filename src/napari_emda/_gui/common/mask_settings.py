"""Settings of masks that the panels share."""

from __future__ import annotations

from dataclasses import dataclass

from napari_emda.settings.objects import ObjectSettings


@dataclass
class MaskSettings:
    """Settings of masks, in layers and in exported files; kept when another project opens.

    Attributes:
        threshold: lowest probability at which a voxel belongs to a class.
        smallest: objects with fewer pixels in a section are left out.
    """

    threshold: float = ObjectSettings.model_fields["threshold"].default
    smallest: int = ObjectSettings.model_fields["minimum_size"].default

    def for_export(self) -> dict[str, float]:
        """The settings under the names that exports have for them."""
        return {"threshold": self.threshold, "minimum_size": self.smallest}
