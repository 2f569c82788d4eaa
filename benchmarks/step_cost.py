"""The cost of an optimiser step of each method, as a multiple of a step of source_only.

All methods are set up at once and take turns, so that other work on the machine affects them
equally. A method with stages is measured at several evenly spaced moments of its training, and the
mean counts. *step* is the optimiser step on a prepared batch; *with its batch* adds drawing and
preparing the patches, which normally happens ahead of time in a second thread.

    python -m benchmarks.step_cost  # profile fast, 64-pixel patches, one thread
    python -m benchmarks.step_cost mmd ynet --rounds 30
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from benchmarks import parser_of
from benchmarks.common import phantom_pair, training, wait
from napari_emda.inference.device import Compute, configure_process
from napari_emda.methods.base import methods
from napari_emda.settings.training import TrainSettings
from napari_emda.training.trainer import Training

BASELINE = "source_only"
MOMENTS = 5


def seconds(work: Training, step: int) -> tuple[float, float]:
    """Seconds for drawing and preparing a batch, and for the optimiser step on it."""
    began = time.perf_counter()
    batch = work.on_device(work.batch(step), step)
    wait(work.compute)
    ready = time.perf_counter()
    work.step(batch, step)
    wait(work.compute)
    return ready - began, time.perf_counter() - ready


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("methods", nargs="*", help="all by default")
    parser.add_argument("--profile", default="fast")
    parser.add_argument("--patch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--write", type=Path, help="a JSON file for the ratios, for the tables of adaptation.py"
    )
    arguments = parser.parse_args()
    configure_process(arguments.threads, polite=False)
    compute = Compute.choose()
    settings = TrainSettings.for_profile(arguments.profile, patch=arguments.patch)
    names = [BASELINE, *(name for name in arguments.methods or methods.names() if name != BASELINE)]
    moments = [round((i + 0.5) / MOMENTS * settings.steps) for i in range(MOMENTS)]
    drawn, stepped = defaultdict(list), defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        works = {
            name: training(
                name,
                settings,
                phantom_pair(256, annotated=methods[name].requirements.annotations),
                Path(folder) / name,
            )
            for name in names
        }
        for number in range(-1, arguments.rounds):
            for moment in moments:
                for name, work in works.items():
                    pair = seconds(work, moment)
                    if number >= 0:  # the first round warms up
                        drawn[name, moment].append(pair[0])
                        stepped[name, moment].append(pair[1])
    print(
        f"{settings.profile} profile, {settings.patch} pixels, batch {settings.batch}, {compute}\n"
    )
    print(
        "| method | step, ms | × source_only | with its batch, × source_only |\n|---|---|---|---|"
    )
    step = {
        name: statistics.mean(statistics.median(stepped[name, m]) for m in moments)
        for name in names
    }
    batch = {
        name: statistics.mean(statistics.median(drawn[name, m]) for m in moments) for name in names
    }
    for name in names:
        whole = (step[name] + batch[name]) / (step[BASELINE] + batch[BASELINE])
        print(
            f"| `{name}` | {1000 * step[name]:.1f} | {step[name] / step[BASELINE]:.2f} | "
            f"{whole:.2f} |"
        )
    if arguments.write is not None:
        arguments.write.write_text(
            json.dumps({name: step[name] / step[BASELINE] for name in names})
        )


if __name__ == "__main__":
    main()
