"""How good patches are after seconds of correcting them, by the tools that are used.

    python -m benchmarks.clicks DATA WORK            # prints the tables
    python -m benchmarks.clicks DATA WORK --write    # also to docs/benchmark-clicks.md

DATA contains vnc/, lucchi/, nuclei_hoechst/, see docs/benchmark-few-labels.md. For each data set a
short training makes a prediction that needs corrections (`clicks_data.py`); models are kept in
WORK. Patches are drawn at random in the half that no training has seen the labels of, from those
that hold anything, and a simulated person corrects them one after the other
(`simulated_painter.py`). All tools correct the same patches in the same order.
"""

from __future__ import annotations

import datetime
import platform
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks import parser_of
from benchmarks.clicks_data import SOURCES, Scored, scored
from benchmarks.simulated_painter import KEY, LOOK, OBJECT, SPEED, Painter, Tools
from napari_emda.evaluation.check_points import DRAWN
from napari_emda.evaluation.point_calibration import choose

PAGE = Path(__file__).parents[1] / "docs" / "benchmark-clicks.md"
PATCH = 128
PATCHES = 100
SECONDS = (30, 60, 120, 300, 600)
"""After which the patches are scored."""
POINTS = 50
HALF = 128
START, END = "<!-- tables -->\n", "<!-- end of tables -->\n"


@dataclass(frozen=True)
class Way:
    """A way to correct patches.

    Attributes:
        name: in the table.
        tools: that are used.
        predicted: whether patches begin with the prediction.
        points: whether check points are answered first.
    """

    name: str
    tools: Tools
    predicted: bool = True
    points: bool = False


TODAY = "prediction + brush"
WAYS = (
    Way("brush from nothing", Tools(), predicted=False),
    Way(TODAY, Tools()),
    Way("prediction + objects + brush", Tools(objects=True)),
    Way("prediction + smart brush + brush", Tools(smart=True)),
    Way("prediction + objects + smart brush + brush", Tools(objects=True, smart=True)),
    Way("check points, then brush", Tools(), points=True),
    Way("check points, then all tools", Tools(objects=True, smart=True), points=True),
)


@dataclass
class Curve:
    """IoU of all patches together over the seconds.

    Attributes:
        times: rising.
        scores: from each of them on.
        tools: how often each was used.
        patches: that were done.
    """

    times: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    tools: Counter[str] = field(default_factory=Counter)
    patches: int = 0

    def at(self, seconds: float) -> float:
        """IoU after so many seconds."""
        return self.scores[int(np.searchsorted(self.times, seconds, side="right")) - 1]

    def until(self, score: float) -> float:
        """Seconds until an IoU; infinite if it was never reached."""
        reached = np.flatnonzero(np.array(self.scores) >= score)
        return self.times[reached[0]] if len(reached) else float("inf")


def drawn(data: Scored, seed: int) -> list[tuple[int, slice, slice]]:
    """Patches at random, of those that hold any voxel of the structure, true or predicted."""
    rng = np.random.default_rng(seed)
    anything = data.truth | (data.stored >= HALF)
    found: list[tuple[int, slice, slice]] = []
    while len(found) < PATCHES:
        z, y, x = (
            int(rng.integers(n - side + 1))
            for n, side in zip(anything.shape, (1, PATCH, PATCH), strict=True)
        )
        patch = (z, slice(y, y + PATCH), slice(x, x + PATCH))
        if anything[patch].any():
            found.append(patch)
    return found


def threshold_by_points(data: Scored, seed: int) -> int:
    """The lowest stored probability of the mask after check points; as it is if they say so."""
    counts = np.bincount(data.stored.ravel(), minlength=256).astype(np.int64)
    rng = np.random.default_rng(seed)
    chance = counts * DRAWN
    levels = rng.choice(256, size=POINTS, p=chance / chance.sum())
    share = np.bincount(data.stored[data.truth], minlength=256) / np.maximum(counts, 1)
    answers = rng.random(POINTS) < share[levels]
    choice = choose(counts[None], levels, answers, np.ones(POINTS, bool))
    return choice.level if choice is not None and choice.is_worth_it else HALF


def correct(data: Scored, way: Way, seed: int, speed: float = SPEED) -> Curve:
    """Correct the patches of a draw for as long as the last score is away."""
    patches = drawn(data, seed)
    truth = [data.truth[patch] for patch in patches]
    paint = [_begun(data.stored[patch], way.predicted, HALF) for patch in patches]
    curve = Curve()
    clock = 0.0
    _note(curve, clock, paint, truth)
    if way.points:
        clock += POINTS * (LOOK + KEY)
        level = threshold_by_points(data, seed)
        paint = [_begun(data.stored[patch], way.predicted, level) for patch in patches]
        _note(curve, clock, paint, truth)
    for number, patch in enumerate(patches):
        clock += LOOK
        painter = Painter(data.image[patch], data.stored[patch], truth[number], way.tools, speed)
        for done in painter.work(paint[number]):
            clock += done.seconds
            if clock > SECONDS[-1]:
                return curve
            paint[number] = done.paint
            curve.tools[done.tool] += 1
            _note(curve, clock, paint, truth)
        clock += KEY
        curve.patches += 1
    return curve


def _begun(stored: NDArray[np.uint8], predicted: bool, level: int) -> NDArray[np.uint8]:
    mask = (stored >= level) if predicted else np.zeros(stored.shape, bool)
    return np.where(mask, OBJECT, 0).astype(np.uint8)


def _note(
    curve: Curve,
    clock: float,
    paint: list[NDArray[np.uint8]],
    truth: list[NDArray[np.bool_]],
) -> None:
    found = np.stack(paint) == OBJECT
    true = np.stack(truth)
    curve.times.append(clock)
    curve.scores.append(float((found & true).sum() / max((found | true).sum(), 1)))


def tables(data: Scored, seeds: int, speed: float) -> Iterator[str]:
    """The lines of a data set's table."""
    curves = {way.name: [correct(data, way, seed, speed) for seed in range(seeds)] for way in WAYS}
    yield f"\n### {data.name}\n"
    times = " | ".join(f"{seconds} s" for seconds in SECONDS)
    yield f"| way | at once | {times} | s to the IoU of today's 600 s | patches | actions |"
    yield "|---" * (len(SECONDS) + 5) + "|"
    goals = [curve.at(SECONDS[-1]) for curve in curves[TODAY]]
    for way in WAYS:
        of_way = curves[way.name]
        scores = [np.mean([curve.at(seconds) for curve in of_way]) for seconds in (0, *SECONDS)]
        until = [curve.until(goal) for curve, goal in zip(of_way, goals, strict=True)]
        used = sum((curve.tools for curve in of_way), Counter[str]())
        cells = [
            way.name,
            *(f"{score:.3f}" for score in scores),
            " / ".join("–" if np.isinf(seconds) else f"{seconds:.0f}" for seconds in until),
            f"{np.mean([curve.patches for curve in of_way]):.0f}",
            ", ".join(f"{tool} {n / seeds:.0f}" for tool, n in used.most_common()),
        ]
        yield f"| {' | '.join(cells)} |"


def main() -> None:
    """Print the tables; also write them if asked to."""
    parser = parser_of(__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--seeds", type=int, default=2, help="draws of patches")
    parser.add_argument("--speed", type=float, default=SPEED, help="of strokes, in pixels a second")
    parser.add_argument("--only", nargs="+", choices=SOURCES, default=list(SOURCES))
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    started = time.process_time()
    lines: list[str] = []
    for name in options.only:
        for line in tables(scored(options.data, options.work, name), options.seeds, options.speed):
            print(line, flush=True)
            lines.append(line)
    machine = f"{platform.machine()}, one thread"
    day = datetime.date.today().isoformat()
    lines.append(
        f"\n{day}, {machine}; draws: {', '.join(map(str, range(options.seeds)))}; "
        f"{(time.process_time() - started) / 60:.0f} minutes of a CPU without the trainings."
    )
    print(lines[-1])
    if options.write:
        page = PAGE.read_text(encoding="utf-8")
        before, rest = page.split(START)
        _, after = rest.split(END)
        text = "\n".join(lines)
        PAGE.write_text(f"{before}{START}{text}\n\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
