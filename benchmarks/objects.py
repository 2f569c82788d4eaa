"""How well touching objects are separated, from true foreground masks, and how fast.

DATA holds nuclei_hoechst, nuclei_histology, lucchi and vnc, see docs/benchmark-objects.md.

    python -m benchmarks.objects DATA
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from scipy import ndimage
from skimage.feature import peak_local_max
from skimage.segmentation import watershed

from benchmarks import parser_of
from napari_emda.data.probabilities import CERTAIN
from napari_emda.data.resampled import Resampled
from napari_emda.data.volume import Volume
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.evaluation.contingency import Contingency
from napari_emda.evaluation.object_scores import compare_objects
from napari_emda.events import result_of
from napari_emda.objects.borders import CONTOUR, FARTHEST, STEPS, Borders
from napari_emda.objects.separation import separate
from napari_emda.synthetic.phantom import phantom_objects

NUCLEI = ("nuclei_hoechst", "nuclei_histology")
# Long objects with constrictions, most of them whole: what is cut here is cut wrongly.
MITOCHONDRIA = {
    "lucchi/mitochondria_10nm.tif": (10.0, 10.0, 10.0),
    "vnc/mitochondria.tif": (50.0, 4.6, 4.6),
}
NECKS = (0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9)
# With contours, necks are as narrow as they should be.
MAPPED_NECKS = (0.3, 0.4, 0.5, 0.6, 0.7)
# Distances between the peaks of scikit-image's watershed, in pixels.
PEAKS = (5, 10, 15)
# Isotropic and as serial sections; mitochondria that touch and branch more than in tissue.
PHANTOMS = [((100, 300, 300), (10.0, 10.0, 10.0)), ((30, 400, 400), (50.0, 8.0, 8.0))]
SEEDS = (0, 1, 2)
TOUCHING = 0.6
BRANCHING = 0.3
# A part of an object counts from this share of its voxels on.
PART = 0.1
# Smaller components of masks are errors of drawing.
SPECK = 200
Ids = NDArray[np.uint32]


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("data", type=Path)
    arguments = parser.parse_args()
    print("| data | separation | AP .5 | AP .75 | AP .5:.95 | PQ | VI split | VI merge | count |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name in NUCLEI:
        nuclei(name, tifffile.imread(arguments.data / name / "instances.tif"))
    print("\n| data | neck | objects | cut | parts | Mvoxel/s |")
    print("|---|---|---|---|---|---|")
    for file, spacing in MITOCHONDRIA.items():
        mitochondria(file, tifffile.imread(arguments.data / file) > 0, VoxelGrid(spacing))
    print("\n| voxels (nm) | neck | pairs separated | objects cut | AP .5 | AP .75 | PQ |")
    print("|---|---|---|---|---|---|---|")
    for shape, spacing in PHANTOMS:
        touching(shape, VoxelGrid(spacing))
        touching(shape, VoxelGrid(spacing), mapped=True)


def nuclei(name: str, instances: NDArray[Any]) -> None:
    """Scores of all separations of the nuclei's mask."""
    truth = section_by_section(instances, lambda section: section)
    components = section_by_section(instances > 0, connected)
    grid = VoxelGrid((1, 1, 1), "pixel", sections_are_independent=True)
    for label, found in _separations(instances, components, grid):
        scores = compare_objects(found, truth)
        keys = ("ap_50", "ap_75", "ap_50_95", "panoptic_quality", "vi_split", "vi_merge")
        numbers = " | ".join(f"{scores[key]:.3f}" for key in keys)
        count = f"{scores['objects']} of {scores['truth_objects']}"
        print(f"| {name} | {label} | {numbers} | {count} |", flush=True)


def _separations(
    instances: NDArray[Any], components: Ids, grid: VoxelGrid
) -> Iterator[tuple[str, Ids]]:
    mask = instances > 0
    yield "components", components
    for neck in NECKS:
        yield f"neck {neck:g}", separated(components, grid, neck)
    maps = true_maps(instances, grid)
    for neck in MAPPED_NECKS:
        yield f"true contours, neck {neck:g}", separated(components, grid, neck, maps)
    for distance in PEAKS:

        def peer(section: NDArray[np.bool_], distance: int = distance) -> NDArray[Any]:
            return plain_watershed(section, distance)

        yield f"scikit-image, {distance} pixels", section_by_section(mask, peer)


def mitochondria(name: str, mask: NDArray[np.bool_], grid: VoxelGrid) -> None:
    """How many whole objects are cut, and the speed."""
    components = connected(mask).astype(np.uint32)
    large = np.flatnonzero(np.bincount(components.ravel())[1:] >= SPECK) + 1
    for neck in NECKS:
        start = time.process_time()
        found = separated(components, grid, neck)
        speed = mask.size / 1e6 / (time.process_time() - start)
        pairs = np.unique(np.stack([components[mask], found[mask]]), axis=1)
        parts = np.bincount(pairs[0])[large]
        cut = np.count_nonzero(parts > 1)
        print(f"| {name} | {neck:g} | {len(large)} | {cut} | {parts.sum()} | {speed:.1f} |")


def touching(shape: tuple[int, int, int], grid: VoxelGrid, *, mapped: bool = False) -> None:
    """Touching pairs of the phantom that are separated, and objects that are cut.

    Args:
        shape: of the phantom.
        grid: of its voxels.
        mapped: whether they are separated by the maps that a perfect network would predict.
    """
    volumes = [
        phantom_objects(
            shape, "target", seed, grid.spacing, touching=TOUCHING, branching=BRANCHING
        )[1]
        for seed in SEEDS
    ]
    size = " × ".join(f"{side:g}" for side in grid.spacing)
    for neck in MAPPED_NECKS if mapped else (0, *NECKS):
        numbers = np.zeros(4, int)
        scores = []
        for truth in volumes:
            found = connected(truth).astype(np.uint32)
            if neck:
                found = separated(found, grid, neck, true_maps(truth, grid) if mapped else None)
            numbers += pairs_and_cuts(truth, found)
            scores.append(compare_objects(found, truth))
        apart, pairs, cut, objects = numbers
        means = " | ".join(
            f"{np.mean([score[key] for score in scores]):.3f}"
            for key in ("ap_50", "ap_75", "panoptic_quality")
        )
        label = f"{neck:g}, true contours" if mapped else f"{neck:g}"
        print(f"| {size} | {label} | {apart} of {pairs} | {cut} of {objects} | {means} |")


def pairs_and_cuts(truth: Ids, found: Ids) -> tuple[int, int, int, int]:
    """Touching pairs that are separated, and all; objects that are cut, and all."""
    parts = Contingency.of(found, truth)
    inside = parts.within_truth()
    largest: dict[int, int] = {}
    cut = 0
    for number in np.unique(inside.true).tolist():
        of = inside.true == number
        order = np.argsort(inside.voxels[of])[::-1]
        sizes = inside.voxels[of][order]
        largest[number] = int(inside.found[of][order[0]])
        cut += len(sizes) > 1 and sizes[1] > PART * sizes.sum()
    pairs = _touching_pairs(truth)
    apart = sum(largest[a] != largest[b] for a, b in pairs)
    return apart, len(pairs), cut, len(largest)


def _touching_pairs(ids: Ids) -> set[tuple[int, int]]:
    pairs: set[tuple[int, int]] = set()
    for axis in range(3):
        low = np.delete(ids, -1, axis)
        high = np.delete(ids, 0, axis)
        meet = (low != high) & (low > 0) & (high > 0)
        both = np.unique(np.sort([low[meet], high[meet]], axis=0), axis=1)
        pairs |= set(map(tuple, both.T.tolist()))
    return pairs


def separated(
    components: Ids, grid: VoxelGrid, neck: float, maps: NDArray[np.uint8] | None = None
) -> Ids:
    out = np.zeros(components.shape, np.uint32)
    result_of(separate(components, out, grid, neck=neck, maps=maps))
    return out


def true_maps(ids: NDArray[Any], grid: VoxelGrid) -> NDArray[np.uint8]:
    """The maps of objects that a perfect network would predict."""
    volume = Volume("true", ids, "source", grid, labels=ids, ids=ids)
    view = Resampled(volume, grid.pixel_size)
    distance = Borders(view, numbered=True, connected=False).whole() / STEPS
    contours = (distance > 0) & (distance <= CONTOUR)
    return (CERTAIN * np.stack([contours, np.minimum(distance / FARTHEST, 1)])).astype(np.uint8)


def connected(mask: NDArray[np.bool_]) -> NDArray[Any]:
    return np.asarray(ndimage.label(mask)[0])


def plain_watershed(mask: NDArray[np.bool_], distance: int) -> NDArray[Any]:
    """As in scikit-image's gallery: from the peaks of the distance transform."""
    heights = ndimage.distance_transform_edt(mask)
    peaks = peak_local_max(heights, min_distance=distance, labels=connected(mask))
    seeds = np.zeros(mask.shape, np.int32)
    seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    return np.asarray(watershed(-heights, seeds, mask=mask))


def section_by_section(stack: NDArray[Any], number: Callable[[NDArray[Any]], NDArray[Any]]) -> Ids:
    """Number the objects of independent images, with ids that are unique in the stack."""
    out = np.zeros(stack.shape, np.uint32)
    for z, section in enumerate(stack):
        ids = number(section)
        out[z] = np.where(ids > 0, ids + out.max(), 0)
    return out


if __name__ == "__main__":
    main()
