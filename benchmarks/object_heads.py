"""Objects that are separated by learnt contours, against the same training without them.

DATA holds nuclei_hoechst and nuclei_histology, see docs/benchmark-objects.md. Nuclei: trained on
the first fields, tested on the last half of them. Phantoms: trained on one, tested on another.

    python -m benchmarks.object_heads DATA --steps 600 --cases fluorescence-18 phantom-iso
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from benchmarks import parser_of
from benchmarks.objects import (
    BRANCHING,
    TOUCHING,
    Ids,
    pairs_and_cuts,
    section_by_section,
)
from napari_emda.data.volume import Volume
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.evaluation.object_scores import compare_objects
from napari_emda.events import result_of
from napari_emda.inference.predict import predict
from napari_emda.inference.predictor import Predictor
from napari_emda.io.checked_store import open_array
from napari_emda.jobs.prepare_training import training_on
from napari_emda.objects.separation import find_separate_objects_in
from napari_emda.project.job_files import TrainJob
from napari_emda.project.run_folder import RunFolder
from napari_emda.settings.objects import SeparationSettings
from napari_emda.settings.prediction import PredictSettings
from napari_emda.settings.training import TrainSettings
from napari_emda.synthetic.phantom import phantom_objects
from napari_emda.training.loop import fit

CASES = {
    "fluorescence-10": ("nuclei_hoechst", 10),
    "fluorescence-18": ("nuclei_hoechst", 18),
    "tissue-10": ("nuclei_histology", 10),
    "tissue-25": ("nuclei_histology", 25),
    "phantom-iso": ((100, 300, 300), (10.0, 10.0, 10.0)),
    "phantom-sections": ((30, 400, 400), (50.0, 8.0, 8.0)),
}
NECKS = (0.0, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
# Smaller than any nucleus (pixels) and any mitochondrion (voxels).
NUCLEUS = 30
MITOCHONDRION = 200


@dataclass(frozen=True)
class Case:
    """What is learnt from, and what is predicted.

    Attributes:
        source: labelled, with numbers of objects.
        tested: the same kind of volume.
        truth: numbers of its objects.
    """

    source: Volume
    tested: Volume
    truth: Ids


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--objects", nargs="+", default=["off", "contour"])
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--context", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for the predicted maps")
    arguments = parser.parse_args()
    print(
        "| data | objects | neck | IoU | AP .5 | AP .75 | PQ | VI split | VI merge | count | pairs "
        "separated | objects cut |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|---|")
    for name in arguments.cases:
        case = case_of(name, arguments.data, arguments.seed)
        for objects in arguments.objects:
            settings = TrainSettings.for_profile(
                "fast",
                steps=arguments.steps,
                batch=arguments.batch,
                context=arguments.context,
                seed=arguments.seed,
                objects=objects,
                validations=0,
                device="cpu",
            )
            probabilities, maps = predicted(case, settings)
            if arguments.keep:
                file = arguments.keep / f"{name}-{objects}-{arguments.seed}.npz"
                empty = np.zeros(0) if maps is None else maps
                np.savez_compressed(file, p=probabilities, maps=empty, ids=case.truth)
            for row in rows(case, probabilities, maps):
                print(f"| {name} | {objects} | {row} |", flush=True)


def case_of(name: str, data: Path, seed: int) -> Case:
    kind, size = CASES[name]
    if isinstance(kind, str):
        image, ids = (tifffile.imread(data / kind / f"{n}.tif") for n in ("image", "instances"))
        grid = VoxelGrid((1, 1, 1), "pixel", sections_are_independent=True)
        last = slice(len(image) // 2, None)
        source = _volume("source", image[:size], ids[:size], grid)
        truth = section_by_section(ids[last], lambda section: section)
        return Case(source, _volume("tested", image[last], ids[last], grid), truth)
    assert isinstance(size, tuple)
    grid = VoxelGrid(size)
    # The seeds of the tested ones are those of benchmarks/objects.py.
    drawn = [
        phantom_objects(kind, "target", s, size, touching=TOUCHING, branching=BRANCHING)
        for s in (100 + seed, seed)
    ]
    source, tested = (
        _volume(name, *arrays, grid)
        for name, arrays in zip(("source", "tested"), drawn, strict=True)
    )
    return Case(source, tested, drawn[1][1])


def _volume(name: str, image: NDArray[Any], ids: NDArray[Any], grid: VoxelGrid) -> Volume:
    return Volume(name, image, "source", grid, labels=ids, ids=ids)


def predicted(case: Case, settings: TrainSettings) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Probabilities of the tested volume, and maps of objects if they are learnt."""
    job = TrainJob(project="none", method="source_only", settings=settings)
    with TemporaryDirectory() as folder:
        run = RunFolder(Path(folder))
        training, _ = training_on(
            lambda domain: [case.source] if domain == "source" else [],
            ("background", "object"),
            job,
            run,
        )
        for _ in fit(training):
            pass
        for _ in predict(Predictor.load(run.path), case.tested, PredictSettings(), run):
            pass
        name = case.tested.name
        maps = open_array(run.object_maps(name))[:] if settings.objects != "off" else None
        return np.asarray(open_array(run.probabilities(name))[:]), maps


def rows(case: Case, probabilities: NDArray[Any], maps: NDArray[Any] | None) -> Iterator[str]:
    """The scores of the objects, a row for each setting of the neck."""
    mask = probabilities[0] >= 128
    inside = case.truth > 0
    iou = np.count_nonzero(mask & inside) / np.count_nonzero(mask | inside)
    grid = case.tested.grid
    for neck in NECKS:
        speck = NUCLEUS if grid.sections_are_independent else MITOCHONDRION
        chosen = SeparationSettings(separate=neck, minimum_size=speck)
        with TemporaryDirectory() as folder:
            search = find_separate_objects_in(Path(folder), probabilities, chosen, grid, maps=maps)
            found = np.asarray(result_of(search)[0][:])
        scores = compare_objects(found, case.truth)
        keys = ("ap_50", "ap_75", "panoptic_quality", "vi_split", "vi_merge")
        numbers = " | ".join(f"{scores[key]:.3f}" for key in keys)
        count = f"{scores['objects']} of {scores['truth_objects']}"
        apart, pairs, cut, objects = pairs_and_cuts(case.truth, found)
        # Sections of independent images touch nothing in the next one.
        touching = "" if grid.sections_are_independent else f"{apart} of {pairs}"
        yield f"{neck:g} | {iou:.3f} | {numbers} | {count} | {touching} | {cut} of {objects}"


if __name__ == "__main__":
    main()
