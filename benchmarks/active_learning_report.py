"""Tables and figures of learning curves; see active_learning.py."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np

DOCS = Path(__file__).parents[1] / "docs"
PAGE, PICTURES = DOCS / "benchmark-active-learning.md", DOCS / "images"
CEILING, BASELINE = "full supervision", "random"
SHARE = 0.95
"""Of full supervision's IoU: the labels needed to reach it are compared."""


@dataclass(frozen=True)
class Curve:
    """The measurements of one cell."""

    data: str
    strategy: str
    seed: int
    result: dict[str, Any]

    @property
    def iou(self) -> list[float]:
        """IoU at the start and after every round."""
        return list(self.result["iou"])

    @property
    def seconds(self) -> float:
        """Seconds of the whole cell."""
        return float(self.result["seconds"])

    @property
    def area(self) -> float:
        """Mean IoU under the curve."""
        patches = self.result["patches"]
        return float(np.trapezoid(self.iou, patches) / (patches[-1] - patches[0]))


def grouped(curves: list[Curve]) -> dict[str, dict[str, list[Curve]]]:
    """Curves by data, then by strategy."""
    groups: dict[str, dict[str, list[Curve]]] = {}
    for curve in curves:
        groups.setdefault(curve.data, {}).setdefault(curve.strategy, []).append(curve)
    return groups


def needed(curves: list[Curve], goal: float) -> float:
    """Number of patches at which the mean curve reaches an IoU, interpolated; nan for never."""
    iou, patches = np.mean([curve.iou for curve in curves], axis=0), curves[0].result["patches"]
    reached = np.flatnonzero(iou >= goal)
    if not len(reached):
        return float("nan")
    i = int(reached[0])
    if i == 0:
        return float(patches[0])
    share = (goal - iou[i - 1]) / (iou[i] - iou[i - 1])
    return float(patches[i - 1] + share * (patches[i] - patches[i - 1]))


def spread(values: list[float]) -> str:
    """Mean and standard deviation."""
    return f"{mean(values):.3f}" + (f" ± {stdev(values):.3f}" if len(values) > 1 else "")


def row(*cells: str) -> str:
    """A row of a Markdown table."""
    return "| " + " | ".join(cells) + " |"


def tables(protocol: str, curves: list[Curve]) -> Iterator[str]:
    """Markdown, one table per volume or pair, sorted by the area under the curve."""
    for data, strategies in grouped(curves).items():
        ceiling = strategies.pop(CEILING, [])
        if not strategies:
            continue
        yield f"\n### {data}\n"
        top = mean(curve.iou[-1] for curve in ceiling) if ceiling else float("nan")
        yield (
            f"Full supervision: IoU {spread([curve.iou[-1] for curve in ceiling])}.\n"
            if ceiling
            else ""
        )
        ordered = sorted(
            strategies.items(), key=lambda item: -mean(curve.area for curve in item[1])
        )
        patches = ordered[0][1][0].result["patches"]
        yield from (_pool_table if protocol == "pool" else _product_table)(
            dict(ordered), patches, top
        )


def _pool_table(
    strategies: dict[str, list[Curve]], patches: list[int], top: float
) -> Iterator[str]:
    rounds = [f"IoU at {n}" for n in patches]
    heads = [
        "strategy",
        *rounds,
        "area under curve",
        "patches for 95 %",
        "× random",
        "foreground",
        "seconds a cell",
    ]
    yield row(*heads)
    yield "|---" * len(heads) + "|"
    baseline = needed(strategies[BASELINE], SHARE * top) if BASELINE in strategies else float("nan")
    for name, curves in strategies.items():
        count = needed(curves, SHARE * top)
        yield row(
            f"`{name}`",
            *(f"{value:.3f}" for value in np.mean([curve.iou for curve in curves], axis=0)),
            f"**{spread([curve.area for curve in curves])}**",
            f"> {patches[-1]}" if np.isnan(count) else f"{count:.0f}",
            "–" if np.isnan(count / baseline) else f"{count / baseline:.2f}",
            f"{np.mean([curve.result['foreground'] for curve in curves]):.3f}",
            f"{mean(curve.seconds for curve in curves):.0f}",
        )


def _product_table(
    strategies: dict[str, list[Curve]], patches: list[int], top: float
) -> Iterator[str]:
    shown = [patches.index(n) for n in (0, 5, 10, 20, 40) if n in patches]
    heads = [
        "strategy",
        *(f"IoU after {patches[i]}" for i in shown),
        "of full supervision",
        "patches for random's last",
    ]
    heads += ["pixels a patch, corrected", "painted from nothing", "seconds a cell"]
    yield row(*heads)
    yield "|---" * len(heads) + "|"
    for name, curves in strategies.items():
        goal = mean(curve.iou[-1] for curve in strategies.get(BASELINE, curves))
        count = needed(curves, goal)
        size = patches[1] - patches[0]
        yield row(
            f"`{name}`",
            *(spread([curve.iou[i] for curve in curves]) for i in shown),
            f"{mean(curve.iou[-1] for curve in curves) / top:.2f}",
            f"> {patches[-1]}" if np.isnan(count) else f"{count:.0f}",
            *(
                f"{np.mean([c.result[key] for c in curves]) / size:.0f}"
                for key in ("corrected", "from_nothing")
            ),
            f"{mean(curve.seconds for curve in curves):.0f}",
        )


def draw(protocol: str, curves: list[Curve]) -> list[Path]:
    """One figure per volume or pair: mean curves, and the range of the best and of random."""
    from matplotlib.figure import Figure

    paths = []
    for data, strategies in grouped(curves).items():
        ceiling = strategies.pop(CEILING, [])
        figure = Figure(figsize=(7, 4.5), layout="constrained")
        axes = figure.subplots()
        ordered = sorted(
            strategies.items(), key=lambda item: -mean(curve.area for curve in item[1])
        )
        for place, (name, drawn) in enumerate(ordered):
            iou, patches = np.array([curve.iou for curve in drawn]), drawn[0].result["patches"]
            style = {"color": "black", "linestyle": "--"} if name == BASELINE else {}
            (line,) = axes.plot(patches, iou.mean(0), marker="o", markersize=3, label=name, **style)
            if name == BASELINE or place == 0:
                axes.fill_between(
                    patches, iou.min(0), iou.max(0), color=line.get_color(), alpha=0.15, linewidth=0
                )
        if ceiling:
            axes.axhline(
                mean(curve.iou[-1] for curve in ceiling), color="grey", linestyle=":", label=CEILING
            )
        axes.set(xlabel="annotated patches", ylabel="IoU of the lower half", title=data)
        axes.legend(fontsize="small", ncols=2)
        paths.append(PICTURES / f"active-learning-{protocol}-{data.replace(' → ', '-')}.png")
        figure.savefig(paths[-1], dpi=110)
    return paths


def write_page(protocol: str, curves: list[Curve]) -> None:
    """Put tables and pictures between the page's markers of this protocol."""
    pictures = [
        f"![Learning curves, {path.stem}.](images/{path.name})" for path in draw(protocol, curves)
    ]
    text = "\n".join([*tables(protocol, curves), "", *pictures])
    marks = rf"(<!-- {protocol} -->).*?(<!-- end -->)"
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(
        re.sub(marks, lambda found: f"{found[1]}\n{text}\n\n{found[2]}", page, flags=re.DOTALL),
        "utf-8",
    )
