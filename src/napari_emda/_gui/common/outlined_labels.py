"""The labels layers of the dock, which may show outlines."""

from __future__ import annotations

from typing import Any

from napari.layers import Labels
from napari.utils.notifications import show_info
from numpy.typing import NDArray

from napari_emda.data.lazy import Lazy3D


class OutlinedLabels(Labels):  # type: ignore[misc]
    """Shows outlines in 2-D, and areas without a warning in 3-D.

    napari warns at every change of the view that it draws no outlines in 3-D, although nobody who
    turns a volume around has asked for them there.
    """

    @property
    def _type_string(self) -> str:
        # napari's menus and writers ask for the kind of a layer by this name.
        return "labels"

    @property
    def data(self) -> Any:
        """What the layer shows, which the dock alone replaces."""
        return Labels.data.fget(self)

    @data.setter
    def data(self, data: Any) -> None:
        # napari's menu converts the type of the numbers: the dock could no longer read its own.
        if isinstance(self.data, Lazy3D) and not isinstance(data, Lazy3D):
            show_info(f"'{self.name}' belongs to the project: duplicate it to change the copy.")
            return
        Labels.data.fset(self, data)

    # napari's private method: without it, the warning would be back, and nothing else would change.
    def _calculate_contour(
        self, labels: NDArray[Any], data_slice: tuple[slice, ...]
    ) -> NDArray[Any] | None:
        if labels.ndim > 2:
            return None
        outlines: NDArray[Any] | None = super()._calculate_contour(labels, data_slice)
        return outlines
