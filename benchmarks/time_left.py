"""How right the time left is that a training shows, on the phantom.

    python -m benchmarks.time_left --profile fast --method auto --method finetune --steps 120

Prints one row for each training: its seconds, and the time left as shown divided by the time that
was left, when 25, 50, 75 and 90 % of it are over; and the largest factor, in either direction, from
a quarter of the training on.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import factor, parser_of
from benchmarks.retrain import make
from napari_emda.events import Event, from_json
from napari_emda.jobs.execute import execute
from napari_emda.jobs.time_left import TimeLeft
from napari_emda.project.job_files import TrainJob
from napari_emda.settings.training import TrainSettings

# Small, because the time left is about proportions.
SHAPE = (8, 256, 256)
# For networks that see stacks of sections.
DEEP = (24, 192, 192)

SHARES = (0.25, 0.5, 0.75, 0.9)

# Between two looks at the time left.
INTERVAL = 0.25

Row = tuple[float, Event]


def recorded(events: Iterator[Event], clock: Callable[[], float]) -> list[Row]:
    """The events of a job, and the seconds from its start to each."""
    began = clock()
    return [(clock() - began, event) for event in events]


def shown(rows: list[Row]) -> list[tuple[float, float]]:
    """Seconds since the start, and seconds left as they are shown then."""
    now = 0.0
    left = TimeLeft(lambda: now)
    seen = []
    for at, event in rows:
        while now < at:
            if (seconds := left.shown_seconds()) is not None:
                seen.append((now, seconds))
            now = min(at, now + INTERVAL)
        left.see(event)
    return seen


def line(name: str, rows: list[Row]) -> str:
    """A training as a row of the table."""
    seen = shown(rows)
    end = rows[-1][0]
    cells = [name, f"{end:.0f}"]
    for share in SHARES:
        at, seconds = min(seen, key=lambda row: abs(row[0] - share * end))
        cells.append(f"{seconds / (end - at):.2f}")
    worst = max(factor(seconds, end - at) for at, seconds in seen if at >= SHARES[0] * end)
    return "| " + " | ".join([*cells, f"{worst:.2f}"]) + " |"


def phases(rows: list[Row]) -> str:
    """Seconds in each phase, as they came."""
    took = []
    name = "before"
    since = 0.0
    for at, event in rows:
        if event.kind == "phase" or (at, event) == rows[-1]:
            took.append((name, at - since))
            name = getattr(event, "name", "")
            since = at
    return "; ".join(f"{name} {seconds:.1f}" for name, seconds in took)


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--profile", default="fast")
    parser.add_argument("--method", action="append", default=[])
    parser.add_argument("--steps", type=int, default=0, help="of each training; 0: the profile's")
    parser.add_argument("--patch", type=int, default=0, help="0: the profile's")
    parser.add_argument("--batch", type=int, default=0, help="0: the profile's")
    parser.add_argument("--network", default="unet")
    parser.add_argument(
        "--cpu", action="store_true", help="seconds of the processor, which other programs leave be"
    )
    parser.add_argument("--record", type=Path, help="folder to keep the events in")
    parser.add_argument("--replay", type=Path, help="folder of kept events, instead of training")
    parser.add_argument(
        "--scale", type=float, default=1.0, help="replay as on a machine that is so much slower"
    )
    parser.add_argument("--phases", action="store_true", help="print how long each phase took")
    options = parser.parse_args()
    print("| training | seconds | 25 % | 50 % | 75 % | 90 % | largest factor |")
    print("|---|---|---|---|---|---|---|")
    if options.replay:
        for path in sorted(options.replay.glob("*.jsonl")):
            report(path.stem, read(path, options.scale), options)
        return
    clock = time.process_time if options.cpu else time.perf_counter
    asked = {"steps": options.steps, "patch": options.patch, "batch": options.batch}
    settings = {name: value for name, value in asked.items() if value}
    settings["network"] = options.network
    shape = DEEP if options.network == "unet_3d" else SHAPE
    with tempfile.TemporaryDirectory() as folder:
        project = make(Path(folder) / "project", shape, "test", 64)
        for method in options.method or ["auto", "finetune"]:
            job = TrainJob(
                project=str(project.folder),
                method=method,
                settings=TrainSettings.for_profile(options.profile, device="cpu", **settings),
            )
            rows = recorded(execute(job), clock)
            if options.record:
                name = f"{method}-{options.network}-{options.profile}-{options.steps}.jsonl"
                kept = [json.dumps([at, event.to_json()]) for at, event in rows]
                (options.record / name).write_text("\n".join(kept) + "\n")
            report(f"{method}, {options.network}, {options.profile}", rows, options)


def read(path: Path, scale: float) -> list[Row]:
    """Events that were kept by ``--record``, ``scale`` times as slow."""
    pairs = map(json.loads, path.read_text().splitlines())
    return [(scale * at, from_json(text)) for at, text in pairs]


def report(name: str, rows: list[Row], options) -> None:
    """Print the row of a training."""
    print(line(name, rows), flush=True)
    if options.phases:
        print(phases(rows), flush=True)


if __name__ == "__main__":
    main()
