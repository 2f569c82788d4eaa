"""Prediction of volumes of any size, tile by tile."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterable, Iterator

from napari_emda.data.box import Box
from napari_emda.data.coverage import Coverage
from napari_emda.data.resampled import Resampled
from napari_emda.data.volume import Volume
from napari_emda.events import Event, Notice, Saved, TileDone
from napari_emda.inference.engine_choice import choose
from napari_emda.inference.origin import averaging
from napari_emda.inference.predict_tiles import predict_tiles
from napari_emda.inference.predictor import Predictor
from napari_emda.inference.tiling import chunks_of, plan, tiles_of
from napari_emda.inference.work_units import BlockDone, work_units
from napari_emda.nn.network import OBJECT_MAPS
from napari_emda.project.run_folder import RunFolder
from napari_emda.project.stored_prediction import StoredPrediction
from napari_emda.settings.prediction import PredictSettings


def predict(
    predictor: Predictor,
    volume: Volume,
    settings: PredictSettings,
    run: RunFolder,
    wanted: Coverage | None = None,
) -> Iterator[Event]:
    """Predict a volume, or a part of it, into a run's folder.

    A stopped prediction continues at the next call, and so does one of a part. Reading, computing
    and writing overlap. Memory is bounded by the tile: with n threads (see `io_threads`), n + 1
    tiles wait to be computed and n to be written. This process alone writes the journal.

    Args:
        predictor: the model; its workers compute, if it has any.
        volume: of any size; it is read tile by tile.
        settings: of the prediction.
        run: probabilities, uncertainty and the journal are written there.
        wanted: the part, see `part_around`; by default all of the volume.

    Yields:
        A Notice if the image has changed, sections of it are spoilt or another engine is used than
        expected; TileDone after each tile is on disk, Saved at the end.

    Raises:
        DataError: a prediction contains NaN or infinity.
        JobError: another process is predicting the volume into the same folder.
        SettingsError: the engine cannot be used.
    """
    view = Resampled(volume, predictor.header.pixel_size)
    averages = averaging(predictor.header, volume, settings)
    stacks = predictor.stacks_of(volume)
    sections = int(averages["z_smoothing"] > 0)
    tiles = plan(view, predictor.network, settings, sections, stacks)
    classes = predictor.header.classes
    prediction = StoredPrediction(run, volume.name)
    # A prediction continues only if all of this is as before: otherwise it would mix two.
    header = {
        **predictor.origin_of(volume),
        **averages,
        "precision": "bf16" if predictor.compute.bf16 else "32",
        "uncertainty": settings.uncertainty,
    }
    object_maps = OBJECT_MAPS if predictor.network.maps_objects else 0
    if object_maps:
        header["object_maps"] = object_maps
    shape = (len(classes) - 1, *volume.shape)
    context = predictor.header.context_of(view)
    free = [key for key in ("precision", "engine") if getattr(settings, key) == "auto"]
    with run.predicting_alone(volume.name):
        if prediction.is_of_another_image(header):
            yield Notice(
                f"The image of '{volume.name}' is not the one that was predicted before: it is "
                "predicted anew."
            )
        begun, is_complete = prediction.begun_by(header, free)
        predictor.engine = None
        if is_complete and begun == "openvino":
            # Nothing is computed.
            header["engine"] = begun
        elif not is_complete:
            predictor.engine, remark = choose(predictor, view, tiles, settings, context, begun)
            if remark:
                yield Notice(remark)
            engine = "torch" if predictor.engine is None else "openvino"
            # The workers compute with the same one.
            settings = settings.model_copy(update={"engine": engine})
            header |= {} if predictor.engine is None else {"engine": engine}
        done = prediction.begin(
            header,
            shape,
            classes=classes,
            uncertainty=settings.uncertainty,
            object_maps=object_maps,
            free=free,
            tiles=[tile.native for tile in tiles],
        )
        if wanted is None:
            wanted = part_around(volume, [Box.whole(volume.shape)])
        total = len(tiles_of(tiles, wanted, view, predictor.network, sections, stacks))
        missing = wanted.without(done)
        tiles = tiles_of(tiles, missing, view, predictor.network, sections, stacks)
        # What was done before may have left parts of tiles.
        total = max(total, len(tiles))
        # Of volumes of the training, the training has said it.
        if volume.name not in predictor.header.spoilt:
            yield from map(Notice, context.remarks(volume.name))
        number = total - len(tiles)
        predicting: Generator[BlockDone | Event]
        workers = predictor.workers
        if workers is None:
            predicting = predict_tiles(predictor, view, tiles, settings, context, prediction)
        else:
            units = work_units(tiles, volume.shape, workers.count, sections, stacks)
            total = number + sum(map(len, units))
            predicting = workers.predict(predictor, prediction, settings, units)
        # Also when it is stopped: what was announced is found by the next prediction.
        with contextlib.closing(predicting), prediction.recording():
            for block in predicting:
                if isinstance(block, Event):
                    yield block
                    continue
                box, is_empty = block
                number += 1
                prediction.box_done(box, is_empty=is_empty)
                yield TileDone(volume.name, box.bounds, number, total)
    yield Saved(str(run.probabilities(volume.name)), predictor.header.step)


def part_around(volume: Volume, boxes: Iterable[Box]) -> Coverage:
    """The part of a volume to predict that holds some boxes: whole chunks of the prediction."""
    part = chunks_of(volume.shape)
    part.add(boxes)
    return part
