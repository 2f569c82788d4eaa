"""What a model keeps of a volume that it has learnt from, so that it can do without the volume."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator

from napari_emda.data.appearance import Appearance
from napari_emda.data.intensity import QUANTILES
from napari_emda.data.spectrum import Spectrum, check_spectrum
from napari_emda.data.volume import Domain

# Shares are counted in voxels and divided: they sum to 1 up to rounding.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class DomainProfile:
    """Grey values, spectrum and class shares of a domain, at the pixel size of the network.

    With it, another volume can be adapted to a model: brought to the same grey values, spectrum or
    class shares, or compared with what the model knows.

    Attributes:
        quantiles: standardised grey values as the network saw them, see
            `intensity.Statistics.quantiles`; the mean over volumes.
        spectrum: mean power by frequency of the unfiltered volumes, see `data.spectrum`.
        appearance: of the largest volume, see `data.domain_gap.between`.
        shares: fraction of each class, background first; empty if nobody knows it.
    """

    quantiles: tuple[float, ...]
    spectrum: Spectrum
    appearance: Appearance
    shares: tuple[float, ...] = ()

    def check(self) -> None:
        """Check values that come from a file; ValueError if they cannot be right."""
        if (
            len(self.quantiles) != QUANTILES
            or not all(map(math.isfinite, self.quantiles))
            or not self.spectrum
        ):
            raise ValueError("The grey values cannot be right")
        check_spectrum(self.spectrum)
        self.appearance.check()
        # NaN fails the comparisons, too.
        if self.shares and not (min(self.shares) >= 0 and abs(sum(self.shares) - 1) < _ROUNDING):
            raise ValueError("The shares cannot be right")


def _checked(profiles: dict[Domain, DomainProfile]) -> dict[Domain, DomainProfile]:
    for profile in profiles.values():
        profile.check()
    return profiles


Profiles = Annotated[dict[Domain, DomainProfile], AfterValidator(_checked)]
"""What a model's header knows of each domain; values from a file are checked."""
