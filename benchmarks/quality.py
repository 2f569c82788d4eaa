"""What each step of `auto` and of fine-tuning adds: spectrum, calibration, unlabelled patches.

    python -m benchmarks.quality DATA WORK                          # VNC and Lucchi, protocol P2
    python -m benchmarks.quality DATA WORK --protocol membranes     # must not become worse
    python -m benchmarks.quality DATA WORK --protocol phantom
    python -m benchmarks.quality DATA WORK --pair vnc lucchi --seed 1      # one of several at once

Data, halves and protocols are those of `adaptation.py`. Cells (pair, seed, row) are measured one
after the other, on the GPU if there is one, else in one thread, and noted in WORK/quality.jsonl;
those that are there are not repeated, so the benchmark can be stopped and continued at any time,
and pairs and seeds can be measured by several processes. Tables of what has been measured go to
standard output as Markdown, and with ``--write`` also to docs/benchmarks.md.

Patches are drawn at random in the target's upper half, as large as an annotator is offered them:
20 of 128 x 128 voxels, which takes an hour, or the first 5 of them. Fine-tuning starts from the run
of `auto` of the same seed, with or without a common spectrum. Full supervision trains on all labels
of that half.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from benchmarks import adaptation_report as report
from benchmarks import parser_of
from benchmarks.adaptation import GUARD, PROTOCOLS, Protocol, binned, emda
from benchmarks.adaptation_report import Pair
from napari_emda.data.blocks import drawn
from napari_emda.data.box import Box
from napari_emda.events import result_of
from napari_emda.inference.device import configure_process
from napari_emda.inference.predict import predict
from napari_emda.inference.predictor import Predictor
from napari_emda.project.project import Project
from napari_emda.project.run_folder import RunFolder
from napari_emda.project.stored_prediction import StoredPrediction
from napari_emda.sampling.region import SamplingRegion
from napari_emda.sampling.sampler import PatchSampler
from napari_emda.settings.prediction import PredictSettings
from napari_emda.settings.training import TrainSettings, split_network
from napari_emda.training.prior_matching import CalibrationSample, calibrate

PATCHES, PATCH, FINE_STEPS = 20, 128, 300
"""Annotated patches, their side in voxels before binning, and the steps of fine-tuning."""


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        name: of the row.
        settings: of the training, as on the command line.
        start: row whose run it is fine-tuned from; empty for a training of its own.
        patches: that are annotated.
        method: of a training of its own.
        tiles: the run of ``start`` is not trained further, but calibrated on tiles.
        against: row to compare with.
    """

    name: str
    settings: tuple[str, ...] = ()
    start: str = ""
    patches: int = PATCHES
    method: str = "auto"
    tiles: bool = False
    against: str = ""


AUTO, SPECTRUM = "auto", "auto, common spectrum"
FEW, LABELS, LABELS_SPECTRUM = "5 patches", "20 patches", "20 patches, common spectrum"
FULL = "full supervision"
# Rows with few patches come before those with more, which need these annotated as well.
ROWS = (
    Row(AUTO),
    Row(SPECTRUM, ("spectrum=common",), against=AUTO),
    Row("auto, calibrated on tiles", start=AUTO, tiles=True, against=AUTO),
    Row(FULL, method="source_only"),
    Row(FEW, start=AUTO, patches=5, against=FULL),
    Row("5 patches, agreement", ("agreement=1",), AUTO, 5, against=FEW),
    Row("5 patches, common spectrum, agreement", ("agreement=1",), SPECTRUM, 5, against=FEW),
    Row(LABELS, start=AUTO, against=FULL),
    Row("20 patches, agreement", ("agreement=1",), AUTO, against=LABELS),
    Row(LABELS_SPECTRUM, start=SPECTRUM, against=LABELS),
    Row("20 patches, common spectrum, agreement", ("agreement=1",), SPECTRUM, against=LABELS),
)
COLUMNS = (
    "row",
    "IoU (mean)",
    "per seed",
    "compared with",
    "difference (mean ± SE)",
    "average precision",
    "seconds",
)
Done = dict[tuple[Pair, int, str], dict[str, Any]]


class Trial:
    """Projects of one pair and seed, with a run for each row that trains.

    Args:
        data: folder of the volumes.
        work: where the projects lie.
        name: of the protocol.
        pair: source and target.
        seed: of volumes' patches and of all trainings.
    """

    def __init__(self, data: Path, work: Path, name: str, pair: Pair, seed: int) -> None:
        self.protocol: Protocol = PROTOCOLS[name]
        self.seed = seed
        self.folder = work / "quality" / "-".join([name, *pair, str(seed)])
        self.supervised = self.folder.with_name(f"{self.folder.name}-supervised")
        image, labels, _ = binned(data, work, pair[0], self.protocol.binning)
        other, self.truth, rows = binned(data, work, pair[1], self.protocol.binning)
        margin = GUARD // self.protocol.binning
        self.upper = f":,0:{rows // 2},:"
        self.lower = f":,{rows // 2 + margin}:{rows},:"
        sources = {self.folder: (image, labels), self.supervised: (other, self.truth)}
        for folder, source in sources.items():
            if folder.exists():
                continue
            with Project.create(folder, ("background", "structure")) as project:
                project.volumes.add(source[0], "source", labels=source[1], name="source")
                project.volumes.add(other, "target", name="target")

    def measured(self, row: Row, start: dict[str, Any] | None) -> dict[str, Any]:
        """The scores of a row on the lower half; ``start`` is the result of the row it goes on."""
        if row.tiles:
            assert start is not None
            return {"iou": self._calibrated_on_tiles(str(start["run"]))}
        folder = self.supervised if row.name == FULL else self.folder
        trained = self._train(folder, row, start)
        scores = emda("score", folder, "--against", self.truth, "--box", self.lower)
        keys = ("iou", "average_precision", "predicted_fraction", "foreground_fraction")
        return {key: scores[key] for key in keys} | {
            "run": trained["run"],
            "seconds": trained["seconds"],
        }

    def _train(self, folder: Path, row: Row, start: dict[str, Any] | None) -> dict[str, Any]:
        steps = self.protocol.steps
        method = ["--method", row.method]
        settings = [*self.protocol.settings, *row.settings, f"target_box={self.upper}"]
        if folder == self.supervised:
            settings.append(f"source_box={self.upper}")
        elif start is None:
            self._annotate(0)
        else:
            self._annotate(row.patches)
            steps = FINE_STEPS
            method = ["--method", "finetune", "--from", str(start["run"])]
        flags = [part for setting in settings for part in ("--set", setting)]
        flags += ["--profile", self.protocol.profile]
        flags += ["--steps", str(steps), "--seed", str(self.seed)]
        return emda("train", folder, *method, *flags)

    def _annotate(self, patches: int) -> None:
        """Let the target have so many annotated patches."""
        with Project.open(self.folder) as project:
            annotated = len(project.regions.all())
            if annotated > patches:
                raise SystemExit(f"{self.folder} has more than {patches} patches: delete it.")
            truth = tifffile.imread(self.truth)
            upper = Box.parse(self.upper, truth.shape)
            side = PATCH // self.protocol.binning
            squares = list(drawn(upper, PATCHES, side, self.seed))[annotated:patches]
            if not squares:
                return
            found = [{"volume": "target", "box": str(box)} for box in squares]
            for region in project.regions.suggest(found, "random", ""):
                labels = (truth[region.voxels.slices] > 0).astype(np.uint8) + 1
                project.annotations.accept(region, labels)

    def _calibrated_on_tiles(self, run: str) -> float:
        """IoU of a run's model, calibrated as before small volumes were predicted completely."""
        predictor = Predictor.load(self.folder / "runs" / run, "cpu")
        with Project.open(self.folder) as project:
            source, target = (project.volumes.open(name) for name in ("source", "target"))
            given, _ = split_network(dict(s.split("=") for s in self.protocol.settings))
            patch = TrainSettings.for_profile(self.protocol.profile, **given).patch
            header = predictor.header
            sampler = PatchSampler(
                [source, target.without_labels()],
                patch,
                1,
                pixel_size=header.pixel_size,
                boxes={"target": self.upper},
                spectrum=header.spectrum,
            )
            postprocessing = header.build().postprocessing
            sample = _Tiles(64, 2 * patch, postprocessing.flips)
            prior = sampler.prior("source", len(header.classes))
            regions = sampler.regions("target")
            weight = result_of(calibrate(predictor, regions, prior, postprocessing, sample))
            predictor.header = header.model_copy(update={"z_smoothing": weight})
            with tempfile.TemporaryDirectory() as temporary:
                output = RunFolder(Path(temporary))
                list(predict(predictor, target, PredictSettings(), output))
                found = StoredPrediction(output, "target").probabilities[0] > 127
        true = tifffile.imread(self.truth) > 0
        box = Box.parse(self.lower, true.shape).slices
        return float((found & true)[box].sum() / (found | true)[box].sum())


class _Tiles(CalibrationSample):
    """Tiles, also of small volumes."""

    def boxes(self, region: SamplingRegion, regions: int) -> list[Box]:
        return list(drawn(region.box, -(-self.tiles // regions), self.side))


def results(path: Path, protocol: str) -> Done:
    """What has been measured of a protocol."""
    lines = path.read_text().splitlines() if path.exists() else []
    cells = [json.loads(line) for line in lines]
    return {
        ((cell["pair"][0], cell["pair"][1]), cell["seed"], cell["row"]): cell
        for cell in cells
        if cell["protocol"] == protocol
    }


def tables(done: Done, pairs: tuple[Pair, ...]) -> Iterator[str]:
    """A table for each pair, of all seeds that have been measured."""
    for pair in pairs:
        if not any(key[0] == pair for key in done):
            continue
        yield from ("", f"### {pair[0]} → {pair[1]}", "")
        yield "| " + " | ".join(COLUMNS) + " |"
        yield "|---" * len(COLUMNS) + "|"
        for row in ROWS:
            of_row = _seeds(done, pair, row.name)
            if of_row:
                yield "| " + " | ".join(_cells(row, of_row, _seeds(done, pair, row.against))) + " |"


def _seeds(done: Done, pair: Pair, name: str) -> dict[int, dict[str, Any]]:
    """The cells of a row by seed."""
    return {key[1]: done[key] for key in sorted(done) if (key[0], key[2]) == (pair, name)}


def _cells(
    row: Row, of_row: dict[int, dict[str, Any]], other: dict[int, dict[str, Any]]
) -> Iterator[str]:
    iou = [float(cell["iou"]) for cell in of_row.values()]
    seconds = [float(cell["seconds"]) for cell in of_row.values() if "seconds" in cell]
    both = [seed for seed in of_row if seed in other]
    yield row.name
    yield f"**{statistics.mean(iou):.3f}**"
    yield ", ".join(f"{value:.3f}" for value in iou)
    yield row.against
    if both:
        mean, error = report.paired([of_row[s] for s in both], [other[s] for s in both])
        yield f"{mean:+.3f}" + ("" if math.isnan(error) else f" ± {error:.3f}")
    else:
        yield ""
    precision = [cell["average_precision"] for cell in of_row.values() if "seconds" in cell]
    yield ", ".join(f"{value:.3f}" for value in precision)
    yield f"{statistics.mean(seconds):.0f}" if seconds else ""


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--protocol", choices=list(PROTOCOLS), default="p2")
    parser.add_argument("--pair", nargs=2, help="source and target; else all of the protocol's")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--seed", type=int, help="this one alone")
    parser.add_argument("--rows", nargs="*", default=[], help="names of rows; all where absent")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/")
    options = parser.parse_args()
    configure_process(1)
    protocol = PROTOCOLS[options.protocol]
    path = options.work / "quality.jsonl"
    rows = [row for row in ROWS if row.name in (options.rows or [row.name])]
    pairs = protocol.pairs if options.pair is None else [tuple(options.pair)]
    for seed in range(options.seeds) if options.seed is None else [options.seed]:
        for pair in pairs:
            for row in rows:
                done = results(path, options.protocol)
                start = done.get((pair, seed, row.start))
                if (pair, seed, row.name) in done:
                    continue
                if row.start and start is None:
                    print(f"{pair}, {row.name}, seed {seed}: needs {row.start}", file=sys.stderr)
                    continue
                trial = Trial(options.data, options.work, options.protocol, pair, seed)
                cell = trial.measured(row, start)
                place = {"protocol": options.protocol, "pair": pair, "seed": seed, "row": row.name}
                with path.open("a") as file:
                    file.write(json.dumps(place | cell) + "\n")
                print(f"{pair}, {row.name}, seed {seed}: {cell['iou']:.3f}", file=sys.stderr)
    text = "\n".join(tables(results(path, options.protocol), protocol.pairs))
    print(text)
    if options.write:
        report.write(f"quality {options.protocol}", text)


if __name__ == "__main__":
    main()
