"""The patches that may be suggested, and the greedy choice among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from napari_emda.data.blocks import R2_STEPS
from napari_emda.data.box import Box
from napari_emda.data.padding import PatchPadding
from napari_emda.errors import DataError
from napari_emda.settings.suggestion import SMALLEST_PATCH

Scores = NDArray[np.float64]
Embeddings = NDArray[np.float32]

# Candidates lie on a grid of a quarter of the patch, so the best place is at most an eighth of a
# patch away along y and x. Half the step would mean four times as many candidates.
STEPS_PER_PATCH = 4
# Rows of embeddings that are compared at a time: 32 MiB at 1024 channels, where the differences of
# all candidates would take as much memory again as the embeddings.
_ROWS = 8192
# Candidates in padding that are closed one by one. If there are more, most of the volume is padding
# or nearly everything else is picked, and reading all of it at once is faster.
_MOST_REJECTED = 64


@dataclass(frozen=True)
class Places:
    """Squares, some sections thick, that stand for a large volume.

    Attributes:
        count: of the squares.
        side: in voxels.
        sections: thickness.
    """

    count: int
    side: int
    sections: int = 1

    def spread_over(self, box: Box, rng: np.random.Generator) -> list[Box]:
        """The squares, evenly spread over all sections of a box, and over their planes.

        They lie on a grid from the volume's first voxel, as the chunks of files do, but for the
        last ones of the box, which end with it. Squares that would be the same are one.

        Args:
            box: where to choose; squares are smaller where it is smaller.
            rng: draws where the sequence begins.
        """
        layers = -(-box.shape[0] // self.sections)
        rows, columns = (self._starts(box, axis) for axis in (1, 2))
        shift = rng.random(3)
        places = []
        for i in range(self.count):
            # Sections in their order; within them the sequence R2, see `data.blocks`.
            z = box.start[0] + self.sections * int((i + shift[0]) * layers / self.count)
            row, column = ((shift[1 + k] + i * R2_STEPS[k]) % 1 for k in (0, 1))
            y = rows[int(row * len(rows))]
            x = columns[int(column * len(columns))]
            stop = (z + self.sections, y + self.side, x + self.side)
            places.append(Box((z, y, x), stop).clip_to(box))
        return list(dict.fromkeys(places))

    def _starts(self, box: Box, axis: int) -> list[int]:
        """Where squares begin along an axis."""
        low = box.start[axis]
        last = max(low, box.stop[axis] - self.side)
        grid = range(low // self.side * self.side, box.stop[axis], self.side)
        return list(dict.fromkeys(min(max(start, low), last) for start in grid))


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
        places: Places | None = None,
    ) -> Candidates:
        """List all patches of a box that lie on the grid, or a sample of them.

        Args:
            shape: voxels of the volume along z, y, x.
            patch: side in voxels.
            box: part to choose from, z0:z1,y0:y1,x0:x1; empty means all.
            limit: maximum number of candidates. Of more, as many are drawn at random.
            seed: of the sample.
            places: where the candidates must lie; None for the whole box.

        Raises:
            DataError: the volume or the box is smaller than a patch, or the box does not lie in
                the volume.
        """
        region = Box.parse(box, shape)
        for name, sides in (("target", shape[1:]), ("box", region.shape[1:])):
            if min(sides) < patch:
                fits = min(sides) >= SMALLEST_PATCH
                larger = f"a patch has at least {SMALLEST_PATCH}, so choose a larger {name}"
                remedy = f"choose patch size {min(sides)} or less" if fits else larger
                raise DataError(
                    f"The {name} is {sides[0]} x {sides[1]} pixels, smaller than one {patch}-pixel "
                    f"patch: {remedy}."
                )
        rng = np.random.default_rng(seed)
        total = _number_of(region, patch)
        if places is None:
            chosen = None if total <= limit else np.sort(rng.choice(total, limit, replace=False))
            return cls(_starts_in(region, patch, chosen), patch, total)
        # Fewer whole squares, so that they stay evenly spread.
        square = Box((0, 0, 0), (places.sections, places.side, places.side))
        fitting = max(1, limit // _number_of(square, patch))
        squares = replace(places, count=min(places.count, fitting)).spread_over(region, rng)
        starts = np.unique(np.concatenate([_starts_in(s, patch) for s in squares]), axis=0)
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
        """Tell which candidates overlap a box in the plane and lie near its sections.

        Args:
            box: in voxels.
            sections: how many sections away a candidate may be; with -1 none is near a box of
                one section.
        """
        z0, *low = box.start
        z1, *high = box.stop
        z = self.starts[:, 0]
        corners = self.starts[:, 1:]
        overlap = (corners < high) & (corners + self.patch > low)
        return (z >= z0 - sections) & (z < z1 + sections) & overlap.all(1)


def _starts_in(box: Box, patch: int, chosen: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
    """First voxels of the patches of a box, n x 3, in (z, y, x) order.

    Args:
        box: at least as large as a patch.
        patch: side in voxels.
        chosen: numbers of those that are wanted, in ascending order; None for all.
    """
    rows, columns = (_starts_along(box.start[axis], box.stop[axis], patch) for axis in (1, 2))
    if chosen is None:
        chosen = np.arange(box.shape[0] * len(rows) * len(columns))
    z, row, column = np.unravel_index(chosen, (box.shape[0], len(rows), len(columns)))
    return np.stack([box.start[0] + z, rows[row], columns[column]], axis=1)


def _number_of(box: Box, patch: int) -> int:
    """Number of patches of a box."""
    rows, columns = (len(_starts_along(box.start[axis], box.stop[axis], patch)) for axis in (1, 2))
    return box.shape[0] * rows * columns


def _starts_along(start: int, stop: int, patch: int) -> NDArray[np.int64]:
    """First voxels along one axis; the last patch ends with the box, so that its rim is covered."""
    step = max(1, patch // STEPS_PER_PATCH)
    last = stop - patch
    return np.unique(np.append(np.arange(start, last, step), last))


class Pool:
    """What a strategy may use to score the candidates, and what has been picked.

    Args:
        candidates: the n patches.
        count: how many are wanted.
        sections: picks at the same place in the plane keep more than this many sections between
            them; with -1 they may overlap.
        seed: of the random numbers that decide between equal scores.
        uncertainty: mean over each patch of the strategy's uncertainty (n); NaN where it is
            unknown.
        embeddings: a vector for each patch (n x D), if the strategy asks for it; a NaN excludes
            its patch.
        annotated: vectors of annotated or skipped patches (m x D); those with a NaN are left out.
        excluded: boxes that must not be suggested again; only their own sections are excluded.
        padding: tells which patches lie in padding, and must not be suggested; None if none does.

    Attributes:
        open: which candidates may still be picked (n).
        picks: indices of the picked candidates, in order.
        tie_breaker: a uniform random number for each candidate (n).
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
        padding: PatchPadding | None = None,
    ) -> None:
        self.candidates = candidates
        self.count = count
        self.sections = sections
        self.seed = seed
        if uncertainty is None:
            uncertainty = np.full(len(candidates), np.nan)
        self.uncertainty = uncertainty
        if annotated is None:
            annotated = np.empty((0, 0), np.float32)
        self.annotated = annotated[_finite_rows(annotated)]
        # Without it argmax would take the upper left corner of the first section among equals.
        self.tie_breaker = np.random.default_rng(seed).random(len(candidates))
        self.picks: list[int] = []
        self.open = np.ones(len(candidates), bool)
        self._padding = padding if padding is not None and padding.greys else None
        self._embeddings = embeddings
        if embeddings is not None:
            finite = _finite_rows(embeddings)
            if not finite.all():
                # Clustering and distances take no NaN, not even of patches that are never picked.
                self._embeddings = np.where(finite[:, None], embeddings, 0)
                self.open = finite
        for box in excluded:
            self.open &= ~candidates.near(box)

    @property
    def embeddings(self) -> Embeddings:
        """A vector for each candidate, n x D float32."""
        assert self._embeddings is not None, "the strategy does not ask for embeddings"
        return self._embeddings

    @cached_property
    def distances(self) -> Scores:
        """Euclidean distance of each candidate to the nearest annotated or picked patch, n float64.

        Infinite while there is none.
        """
        if not len(self.annotated):
            return np.full(len(self.candidates), np.inf)
        # It takes a second to load, and most strategies do without.
        from sklearn.metrics import pairwise_distances_argmin_min

        # This works in chunks: all n x m distances at once may not fit into memory.
        return pairwise_distances_argmin_min(self.embeddings, self.annotated)[1].astype(np.float64)

    @property
    def has_reference(self) -> bool:
        """Whether any patch is annotated or picked, so that `distances` are finite."""
        return bool(self.picks) or len(self.annotated) > 0

    def best(self, scores: Scores) -> int | None:
        """The open candidate with the highest score; None if none is left.

        Among equals a random one. NaN and infinity are never best, and candidates in padding are
        closed.
        """
        index = self._highest(scores)
        # Reading only what would be picked keeps a random draw from reading the whole volume.
        for _ in range(_MOST_REJECTED):
            if index is None or not self._lies_in_padding(index):
                return index
            self.open[index] = False
            index = self._highest(scores)
        self.close_padding()
        return self._highest(scores)

    def close_padding(self) -> None:
        """Close all candidates that lie in padding; this reads every section with an open one."""
        if self._padding is not None:
            still_open = np.flatnonzero(self.open)
            starts = self.candidates.starts[still_open]
            self.open[still_open[self._padding.too_much_in(starts, self.candidates.patch)]] = False

    def _lies_in_padding(self, index: int) -> bool:
        return self._padding is not None and self._padding.too_much(self.candidates.box(index))

    def _highest(self, scores: Scores) -> int | None:
        # The maximum of an array with a NaN is NaN, so unusable scores become -inf first.
        usable = np.where(self.open & np.isfinite(scores), scores, -np.inf)
        highest = usable.max(initial=-np.inf)
        if highest == -np.inf:
            return None
        equals = np.flatnonzero(usable == highest)
        return int(equals[self.tie_breaker[equals].argmax()])

    def take(self, index: int) -> None:
        """Pick a candidate and close all that are too near to it."""
        self.picks.append(index)
        self.open[index] = False
        self.open &= ~self.candidates.near(self.candidates.box(index), self.sections)
        if self._embeddings is not None:
            # Greedy k-centre in O(n) a pick: only the newest pick can be nearer than before.
            distances = distances_to(self.embeddings, self.embeddings[index])
            np.minimum(self.distances, distances, out=self.distances)

    def shortlist(self, scores: Scores, count: int) -> NDArray[np.int64]:
        """Indices of the ``count`` best open candidates that may be picked together, best first."""
        trial = Pool(
            self.candidates,
            count,
            sections=self.sections,
            seed=self.seed,
            padding=self._padding,
        )
        trial.open = self.open.copy()
        while len(trial.picks) < count and (index := trial.best(scores)) is not None:
            trial.take(index)
        return np.array(trial.picks, np.int64)


def _finite_rows(embeddings: Embeddings) -> NDArray[np.bool_]:
    return np.concatenate([np.isfinite(chunk).all(1) for chunk in _chunks(embeddings)])


def distances_to(embeddings: Embeddings, point: Embeddings) -> Scores:
    """Euclidean distance of each row (n x D) to one point (D), n float64."""
    distances = [np.linalg.norm(chunk - point, axis=1) for chunk in _chunks(embeddings)]
    return np.concatenate(distances).astype(np.float64)


def _chunks(embeddings: Embeddings) -> list[Embeddings]:
    """The rows, `_ROWS` at a time, as views."""
    return np.split(embeddings, range(_ROWS, len(embeddings), _ROWS))
