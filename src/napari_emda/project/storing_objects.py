"""Finding, measuring and ranking the objects of a volume, into the folder of a run."""

from __future__ import annotations

import shutil
from collections.abc import Generator, Sequence
from pathlib import Path

from napari_emda.data.block_runner import IN_TURN, BlockRunner
from napari_emda.data.probabilities import ClassProbability
from napari_emda.data.volume import Volume
from napari_emda.data.voxel_grid import VoxelGrid
from napari_emda.events import TileDone, stage
from napari_emda.io.atomic import replacing_folder
from napari_emda.objects.separation import find_separate_objects_in
from napari_emda.objects.suspicion import find_suspicious
from napari_emda.objects.table import measure_objects
from napari_emda.objects.table_file import write_csv
from napari_emda.project.found_objects import (
    DESCRIPTION,
    Description,
    FoundObjects,
    queue_file,
)
from napari_emda.project.labelled_objects import labelled_objects
from napari_emda.project.predictions import Prediction


def store_objects(
    path: Path,
    description: Description,
    prediction: Prediction,
    grid: VoxelGrid,
    sources: Sequence[Volume] = (),
    runner: BlockRunner = IN_TURN,
) -> Generator[TileDone, None, FoundObjects]:
    """Find the objects of all classes of a description; they replace those before, all at once.

    Args:
        path: of the folder, see `napari_emda.project.run_folder.RunFolder.objects`.
        description: how they are found; stored with them.
        prediction: of the volume.
        grid: of its voxels.
        sources: volumes whose labelled objects show what is usual.
        runner: carries out the work on the blocks.

    Yields:
        An event per block.
    """
    path.parent.mkdir(exist_ok=True)
    with replacing_folder(path) as partial:
        partial.mkdir()
        for index, class_id in enumerate(description.classes):
            search = _find(partial, description, prediction, grid, class_id, sources, runner)
            yield from stage(search, index, len(description.classes))
        text = description.model_dump_json(indent=2) + "\n"
        (partial / DESCRIPTION).write_text(text, encoding="utf-8")
    return FoundObjects(path, description)


def _find(
    folder: Path,
    description: Description,
    prediction: Prediction,
    grid: VoxelGrid,
    class_id: int,
    sources: Sequence[Volume],
    runner: BlockRunner,
) -> Generator[TileDone, None, None]:
    settings = description.settings
    volume = description.volume
    probabilities = prediction.reported
    maps = prediction.object_maps
    search = find_separate_objects_in(
        folder, probabilities, settings, grid, class_id, volume, maps, runner
    )
    objects, _ = yield from stage(search, 0, 4)
    probability = ClassProbability(probabilities, class_id)
    measurement = measure_objects(objects, grid, probability, volume, runner)
    table = yield from stage(measurement, 1, 4)
    write_csv(table, folder / f"{class_id}.csv")
    temporary = folder / "temporary"
    labelled = labelled_objects(temporary, sources, class_id, grid)
    usual = yield from stage(labelled, 2, 4)
    ranking = find_suspicious(
        temporary,
        objects,
        table,
        grid,
        probability,
        neck=settings.separate,
        maps=maps,
        usual=usual,
        volume=volume,
        runner=runner,
    )
    queue = yield from stage(ranking, 3, 4)
    write_csv(queue, folder / queue_file(class_id))
    shutil.rmtree(temporary, ignore_errors=True)
