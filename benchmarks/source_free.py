"""Adaptation of a model without its source, against `auto` with it.

    python -m benchmarks.source_free DATA WORK --seeds 1            # VNC and Lucchi, protocol P2
    python -m benchmarks.source_free DATA WORK --rows "source_free" --set rate=0.1

Data, halves and protocols are those of `adaptation.py`. The model is trained on the source alone;
a second project starts from it with the target only. Cells (pair, seed, row) are measured one after
the other, in one thread, and noted in WORK/source_free.jsonl; those that are there are not
repeated. The table goes to standard output as Markdown.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import parser_of
from benchmarks.adaptation import GUARD, PROTOCOLS, Protocol, binned, emda
from benchmarks.adaptation_report import Pair
from napari_emda.inference.device import configure_process

STEPS = 300
"""Of adaptation without the source; the model's own training has those of the protocol."""
SMALLEST = ("rate=0.01", "learning_rate=1e-6")
"""The smallest step there is: nothing but statistics, proportions and averages."""


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        name: of the row.
        settings: of source_free, as on the command line.
        steps: of source_free; 0 predicts with the model as it is.
        with_source: train `auto` with the source instead.
    """

    name: str
    settings: tuple[str, ...] = ()
    steps: int = STEPS
    with_source: bool = False


ROWS = (
    Row("auto, with the source", with_source=True),
    Row("the model as it is", steps=0),
    Row("statistics alone", ("rate=0.01", "learning_rate=1e-6"), 1),
    Row(
        "statistics alone, common spectrum",
        ("rate=0.01", "learning_rate=1e-6", "spectrum=common"),
        1,
    ),
    Row("source_free"),
    Row("source_free, common spectrum", ("spectrum=common",)),
)


class Trial:
    """Two projects of one pair and seed: one with the source, one that starts from a model.

    Args:
        data: folder of the volumes.
        work: where the projects lie.
        protocol: of the trainings.
        pair: source and target.
        seed: of all trainings.
    """

    def __init__(self, data: Path, work: Path, protocol: Protocol, pair: Pair, seed: int) -> None:
        self.protocol = protocol
        self.seed = seed
        self.image, self.labels, _ = binned(data, work, pair[0], protocol.binning)
        self.target, self.truth, rows = binned(data, work, pair[1], protocol.binning)
        self.upper = f":,0:{rows // 2},:"
        self.lower = f":,{rows // 2 + GUARD // protocol.binning}:{rows},:"
        folder = work / "source_free" / "-".join([*pair, str(protocol.binning), str(seed)])
        folder.mkdir(parents=True, exist_ok=True)
        self.source = folder / "source"
        self.both = folder / "both"
        self.alone = folder / "alone"

    def measured(self, row: Row, more: Sequence[str]) -> dict[str, Any]:
        """The scores of a row on the lower half of the target."""
        classes = ["--classes", "background", "structure"]
        if row.with_source:
            if not self.both.exists():
                source = ["--source", self.image, self.labels]
                emda("new", self.both, *source, "--target", self.target, *classes)
            box = f"target_box={self.upper}"
            return self._scored(self.both, self._train(self.both, "auto", 0, [box]))
        if not self.alone.exists():
            if not self.source.exists():
                emda("new", self.source, "--source", self.image, self.labels, *classes)
                self._train(self.source, "source_only", 0, [])
            emda("new", self.alone, "--model", self.source, "--target", self.target)
        if not row.steps:
            return self._scored(self.alone, {"run": "001-imported", "seconds": 0})
        settings = [*row.settings, *more, f"target_box={self.upper}"]
        start = ["--from", "001-imported"]
        trained = self._train(self.alone, "source_free", row.steps, settings, start)
        return self._scored(self.alone, trained)

    def _train(
        self,
        folder: Path,
        method: str,
        steps: int,
        settings: Sequence[str],
        flags: Sequence[str] = (),
    ) -> dict[str, Any]:
        """Train; the protocol says how, unless the settings do."""
        own = () if method == "source_free" else self.protocol.settings
        values = [part for setting in (*own, *settings) for part in ("--set", setting)]
        if method != "source_free":
            values += ["--profile", self.protocol.profile]
        number = ["--steps", str(steps or self.protocol.steps), "--seed", str(self.seed)]
        return emda("train", folder, "--method", method, *flags, *values, *number)

    def _scored(self, folder: Path, trained: dict[str, Any]) -> dict[str, Any]:
        run = str(trained["run"])
        scores = emda("score", folder, "--run", run, "--against", self.truth, "--box", self.lower)
        keys = ("iou", "average_precision", "predicted_fraction", "foreground_fraction")
        return {key: scores[key] for key in keys} | {"run": run, "seconds": trained["seconds"]}


def table(cells: Sequence[dict[str, Any]], pairs: Sequence[Pair]) -> str:
    """IoU and average precision of each row, by pair."""
    lines = [
        "| row | " + " | ".join(f"{source} → {target}" for source, target in pairs) + " |",
        "|---" * (len(pairs) + 1) + "|",
    ]
    for name in dict.fromkeys(cell["row"] for cell in cells):
        columns = []
        for pair in pairs:
            found = [c for c in cells if c["row"] == name and tuple(c["pair"]) == pair]
            iou = [cell["iou"] for cell in found]
            precision = [cell["average_precision"] for cell in found]
            columns.append(
                f"{statistics.mean(iou):.3f} (AP {statistics.mean(precision):.3f})" if found else ""
            )
        lines.append(f"| {name} | " + " | ".join(columns) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--protocol", choices=list(PROTOCOLS), default="p2")
    parser.add_argument(
        "--pair", nargs=2, help="source and target; all of the protocol's if absent"
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--seed", type=int, help="this one alone")
    parser.add_argument("--rows", nargs="*", default=[], help="names of rows; all where absent")
    parser.add_argument("--set", action="append", default=[], help="of source_free, as in `train`")
    options = parser.parse_args()
    configure_process(1)
    protocol = PROTOCOLS[options.protocol]
    path = options.work / "source_free.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    pairs = [tuple(options.pair)] if options.pair else list(protocol.pairs)
    lines = path.read_text().splitlines() if path.exists() else []
    cells = [json.loads(line) for line in lines]
    for seed in range(options.seeds) if options.seed is None else [options.seed]:
        for pair in pairs:
            for row in (row for row in ROWS if row.name in (options.rows or [row.name])):
                name = " ".join([row.name, *options.set])
                key = {"protocol": options.protocol, "pair": list(pair), "seed": seed, "row": name}
                if any(key.items() <= cell.items() for cell in cells):
                    continue
                trial = Trial(options.data, options.work, protocol, pair, seed)
                cells.append(key | trial.measured(row, options.set))
                with path.open("a") as file:
                    file.write(json.dumps(cells[-1]) + "\n")
                print(f"{pair}, {name}, seed {seed}: {cells[-1]['iou']:.3f}", file=sys.stderr)
    print(table([cell for cell in cells if cell["protocol"] == options.protocol], pairs))


if __name__ == "__main__":
    main()
