"""The sentence on the domain gap between the chosen images."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from napari.layers import Image

from napari_emda._gui.common.layer_volumes import array_of
from napari_emda._gui.data.background_sentence import BackgroundSentence
from napari_emda._gui.data.project_setup import Stoppable
from napari_emda._gui.session import Session
from napari_emda.data.domain_gap import DomainGap, domain_gap
from napari_emda.data.volume import Domain, Volume
from napari_emda.data.voxel_grid import Spacing, VoxelGrid


@dataclass(frozen=True)
class ChosenImage:
    """An image and the grid that the user has stated.

    Attributes:
        image: the layer.
        spacing: voxel size (z, y, x) in nm; None if it is not complete.
        sections_are_independent: see `data.voxel_grid.VoxelGrid`.
    """

    image: Image
    spacing: Spacing | None
    sections_are_independent: bool

    def volume(self, domain: Domain, stop: threading.Event, *, in_nm: bool = True) -> Volume:
        """The image as a volume.

        Args:
            domain: of the volume.
            stop: ends reading when it is set.
            in_nm: whether its pixels have the stated size; if not, all pixels have a side of 1.
        """
        spacing = (self.spacing if in_nm else None) or (1.0, 1.0, 1.0)
        grid = VoxelGrid(spacing, sections_are_independent=self.sections_are_independent)
        return Volume(self.image.name, Stoppable(array_of(self.image), stop), domain, grid)


class GapSentence(BackgroundSentence):
    """Measures the domain gap in the background, and shows it.

    Args:
        session: of the dock.
        stop: set when the dock is closed.
    """

    def __init__(self, session: Session, stop: threading.Event) -> None:
        super().__init__(session, stop)
        self._pair: tuple[ChosenImage, ChosenImage] | None = None

    def measure(self, pair: tuple[ChosenImage, ChosenImage] | None) -> None:
        """Measure the gap between source and target; None removes the sentence."""
        self._pair = pair
        self.show_text("")
        if pair is None or self._stop.is_set():
            return
        # Without both sizes, pixels are compared with pixels.
        sizes_are_given = all(chosen.spacing is not None for chosen in pair)
        domains: tuple[Domain, Domain] = ("source", "target")
        source, target = (
            chosen.volume(domain, self._stop, in_nm=sizes_are_given)
            for chosen, domain in zip(pair, domains, strict=True)
        )
        # A hint only: if it cannot be measured, nothing is shown, and the checks will say why.
        self._session.in_background(
            lambda: domain_gap(source, target), self._shower(pair), lambda text: None
        )

    def _shower(self, pair: tuple[ChosenImage, ChosenImage]) -> Callable[[DomainGap], None]:
        def show(gap: DomainGap) -> None:
            # The result comes seconds later, when the user may have chosen other layers.
            if self._pair is pair:
                self.show_text(gap.in_words())
                self.setToolTip(gap.in_numbers())

        return show
