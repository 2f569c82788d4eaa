"""Which patches can be suggested, and the greedy choice among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import pairwise_distances_argmin_min

from napari_emda.data.box import Box
from napari_emda.errors import DataError

Scores = NDArray[np.float64]
Embeddings = NDArray[np.float32]
FINER = 4
"""Candidates lie on a grid of a quarter of the patch."""
_ROWS = 8192


@dataclass(frozen=True)
class Candidates:
    """The n patches that may be suggested.

    Attributes:
        starts: first voxels (z, y, x), n x 3 int64.
        patch: side in voxels; a patch lies in one section.
        total: how many there would be without a limit.
    """

    starts: NDArray[np.int64]
    patch: int
    total: int

    @classmethod
    def of(
        cls,
        shape: tuple[int, int, int],
        patch: int,
        *,
        box: str = "",
        limit: int = 10**6,
        seed: int = 0,
    ) -> Candidates:
        """All patches of a box on the grid, or, of more than ``limit``, those of every k-th section.

        Args:
            shape: voxels of the volume.
            patch: side in voxels.
            box: part to choose from, z0:z1,y0:y1,x0:x1; empty is all.
            limit: most candidates. A single section with more than that is thinned by lot.
            seed: of the first section, so that other rounds look at other sections.

        Raises:
            DataError: the volume or the box is smaller than a patch, or the box does not lie in the volume.
        """
        within = Box.parse(box, shape)
        for what, sides in (("target", shape[1:]), ("box", within.shape[1:])):
            if min(sides) < patch:
                raise DataError(
                    f"The {what} is {sides[0]} x {sides[1]} pixels, smaller than one {patch}-pixel patch: choose patch "
                    f"size {min(sides)} or less."
                )
        rows, columns = (
            _places(a, b, patch) for a, b in zip(within.start[1:], within.stop[1:], strict=True)
        )
        rng, area = np.random.default_rng(seed), len(rows) * len(columns)
        total = within.shape[0] * area
        every = min(-(-total // limit), within.shape[0])
        sections = np.arange(within.start[0] + rng.integers(every), within.stop[0], every)
        starts = np.stack(np.meshgrid(sections, rows, columns, indexing="ij"), axis=-1).reshape(
            -1, 3
        )
        if len(starts) > limit:
            starts = starts[np.sort(rng.choice(len(starts), limit, replace=False))]
        return cls(starts, patch, total)

    def __len__(self) -> int:
        return len(self.starts)

    def box(self, index: int) -> Box:
        """The voxels of a candidate."""
        z, y, x = self.starts[index].tolist()
        return Box((z, y, x), (z + 1, y + self.patch, x + self.patch))

    def near(self, box: Box, sections: int = 0) -> NDArray[np.bool_]:
        """Which candidates overlap a box in the plane and lie within so many sections of it."""
        (z0, *low), (z1, *high) = box.start, box.stop
        z, plane = self.starts[:, 0], self.starts[:, 1:]
        overlap = (plane < high) & (plane + self.patch > low)
        return (z >= z0 - sections) & (z < z1 + sections) & overlap.all(1)


def _places(start: int, stop: int, patch: int) -> NDArray[np.int64]:
    """First voxels along one axis; the last patch ends with the box."""
    return np.unique(
        np.append(np.arange(start, stop - patch, max(1, patch // FINER)), stop - patch)
    )


class Pool:
    """What a strategy may know when it scores, and what was picked so far.

    Args:
        candidates: the n patches.
        count: how many are wanted.
        sections: picks at the same place in the plane keep more than so many sections between them; with -1 they may
            overlap.
        seed: of the lot that decides between equal scores.
        uncertainty: mean over each patch of the strategy's uncertainty (n); NaN where it is not known.
        embeddings: a description of each patch (n x D), where the strategy asks for it; NaN excludes its patch.
        annotated: descriptions of what is annotated or skipped (m x D); those with NaN are left out.
        excluded: boxes that must not be asked for again; they exclude their own sections only.
    """

    def __init__(
        self,
        candidates: Candidates,
        count: int,
        *,
        sections: int = 0,
        seed: int = 0,
        uncertainty: Scores | None = None,
        embeddings: Embeddings | None = None,
        annotated: Embeddings | None = None,
        excluded: Sequence[Box] = (),
    ) -> None:
        self.candidates, self.count, self.sections, self.seed = candidates, count, sections, seed
        self.uncertainty = np.full(len(candidates), np.nan) if uncertainty is None else uncertainty
        self.annotated = (
            np.empty((0, 0), np.float32) if annotated is None else annotated[_finite(annotated)]
        )
        self.tie_breaker = np.random.default_rng(seed).random(len(candidates))
        self.picks: list[int] = []
        self._embeddings, self.open = embeddings, np.ones(len(candidates), bool)
        if embeddings is not None and not (known := _finite(embeddings)).all():
            # clustering and distances take no NaN, not even of patches that are never picked
            self._embeddings, self.open = np.where(known[:, None], embeddings, 0), known
        for box in excluded:
            self.open &= ~candidates.near(box)

    @property
    def embeddings(self) -> Embeddings:
        """Description of each candidate, n x D float32."""
        assert self._embeddings is not None, "the strategy does not ask for embeddings"
        return self._embeddings

    @cached_property
    def distances(self) -> Scores:
        """Euclidean distance of each candidate to the nearest that is annotated or picked, n float64; inf for none."""
        if not len(self.annotated):
            return np.full(len(self.candidates), np.inf)
        return pairwise_distances_argmin_min(self.embeddings, self.annotated)[1].astype(np.float64)

    @property
    def compared(self) -> bool:
        """Whether anything is annotated or picked, so that `distances` are finite."""
        return bool(self.picks) or len(self.annotated) > 0

    def best(self, scores: Scores) -> int | None:
        """The open candidate of the highest score, by lot among equals; None when none is left.

        NaN and infinity are never best.
        """
        left = np.where(self.open & np.isfinite(scores), scores, -np.inf)
        highest = left.max(initial=-np.inf)
        if highest == -np.inf:
            return None
        equals = np.flatnonzero(left == highest)
        return int(equals[self.tie_breaker[equals].argmax()])

    def take(self, index: int) -> None:
        """Pick a candidate and close those that are in its way."""
        self.picks.append(index)
        self.open[index] = False
        self.open &= ~self.candidates.near(self.candidates.box(index), self.sections)
        if self._embeddings is not None:
            np.minimum(
                self.distances,
                distances_to(self.embeddings, self.embeddings[index]),
                out=self.distances,
            )

    def shortlist(self, scores: Scores, count: int) -> NDArray[np.int64]:
        """Indices of the ``count`` best open candidates that are not in each other's way, best first."""
        rest = Pool(self.candidates, count, sections=self.sections, seed=self.seed)
        rest.open = self.open.copy()
        while len(rest.picks) < count and (index := rest.best(scores)) is not None:
            rest.take(index)
        return np.array(rest.picks, np.int64)


def _finite(embeddings: Embeddings) -> NDArray[np.bool_]:
    """Which rows hold numbers only."""
    pieces = np.split(embeddings, range(_ROWS, len(embeddings), _ROWS))
    return np.concatenate([np.isfinite(piece).all(1) for piece in pieces])


def distances_to(embeddings: Embeddings, point: Embeddings) -> Scores:
    """Euclidean distance of each row (n x D) to one point (D), n float64."""
    pieces = np.split(embeddings, range(_ROWS, len(embeddings), _ROWS))
    return np.concatenate([np.linalg.norm(piece - point, axis=1) for piece in pieces]).astype(
        np.float64
    )
