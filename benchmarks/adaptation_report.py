"""Tables of `adaptation.py` and `selection.py` as Markdown, and how they are written to docs/."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

Pair = tuple[str, str]
Results = Mapping[Pair, Mapping[str, Sequence[dict[str, Any]]]]
"""What was measured, by pair and name of the row; a result per seed."""

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
REFERENCE = "auto"
COLUMNS = (
    "method",
    "step × source only",
    "IoU, selected (mean ± SD)",
    "per seed",
    "`auto` less this, paired (± SE)",
    "last",
    "lost against the best",
    "mean per-section IoU",
    "average precision",
    "foreground found / true",
    "seconds a run",
)


def tables(
    results: Results, costs: Mapping[str, float], methods: Mapping[str, str]
) -> Iterator[str]:
    """A table per pair.

    Args:
        results: what was measured.
        costs: of a step of each method, as a multiple of a step of ``source_only``; where unknown
            the cell is empty.
        methods: of each row.
    """
    for (source, target), rows in results.items():
        yield from ("", f"### {source} → {target}", "", _line(COLUMNS), "|---" * len(COLUMNS) + "|")
        true = next(iter(rows.values()))[0]["foreground_fraction"]
        yield _line(["all of it is the structure", "", f"{true:.3f}", *[""] * (len(COLUMNS) - 3)])
        for name, done in rows.items():
            cost = costs.get(methods[name])
            against = (
                paired(rows[REFERENCE], done) if name != REFERENCE and REFERENCE in rows else None
            )
            yield _line(_cells(name, done, cost, against))


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _mean(done: Sequence[dict[str, Any]], key: str) -> float:
    return statistics.mean(float(result[key]) for result in done)


def paired(
    first: Sequence[dict[str, Any]], second: Sequence[dict[str, Any]]
) -> tuple[float, float]:
    """Mean difference of the IoU, seed by seed, and its standard error (NaN for one seed)."""
    differences = [a["iou"] - b["iou"] for a, b in zip(first, second, strict=False)]
    error = (
        statistics.stdev(differences) / len(differences) ** 0.5
        if len(differences) > 1
        else float("nan")
    )
    return statistics.mean(differences), error


def _cells(
    name: str,
    done: Sequence[dict[str, Any]],
    cost: float | None,
    against: tuple[float, float] | None,
) -> list[str]:
    iou = [float(result["iou"]) for result in done]
    spread = f" ± {statistics.stdev(iou):.3f}" if len(iou) > 1 else ""
    return [
        name,
        "" if cost is None else f"{cost:.2f}",
        f"**{statistics.mean(iou):.3f}**{spread}",
        ", ".join(f"{v:.3f}" for v in iou),
        ""
        if against is None
        else f"{against[0]:+.3f}{'' if math.isnan(against[1]) else f' ± {against[1]:.3f}'}",
        f"{_mean(done, 'last'):.3f}",
        f"{statistics.mean(result['choices']['regret selected'] for result in done):.3f}",
        f"{_mean(done, 'section_iou'):.3f}",
        f"{_mean(done, 'average_precision'):.3f}",
        f"{_mean(done, 'predicted_fraction'):.3f} / {_mean(done, 'foreground_fraction'):.3f}",
        f"{_mean(done, 'seconds'):.0f}",
    ]


def overview(
    results: Results, costs: Mapping[str, float], methods: Mapping[str, str]
) -> Iterator[str]:
    """A row per method with its mean IoU on every pair, the best first."""
    pairs = list(results)
    yield _line(["method", *(f"{source} → {target}" for source, target in pairs), "time of a step"])
    yield "|---" * (len(pairs) + 2) + "|"
    means = {
        name: [_mean(rows[name], "iou") for rows in results.values()] for name in results[pairs[0]]
    }
    for name, iou in sorted(means.items(), key=lambda item: -sum(item[1])):
        cost = costs.get(methods[name])
        yield _line([name, *(f"{v:.2f}" for v in iou), "" if cost is None else f"{cost:.1f}"])


def selection_table(results: Results) -> Iterator[str]:
    """How well models are chosen without labels: regret and rank correlation, means over seeds."""
    keys = [f"regret {way}" for way in ("last", "selected", "score", "solidity_gap")]
    keys += [f"spearman {score}" for score in ("score", "solidity_gap")]
    yield _line(
        [
            "pair, row",
            "best",
            "regret: last",
            "**regret: kept**",
            "best score",
            "published",
            "rank: **score**",
            "published",
        ]
    )
    yield "|---" * 8 + "|"
    every: list[dict[str, float]] = []
    for (source, target), rows in results.items():
        for name, done in rows.items():
            choices = [result["choices"] for result in done]
            every += choices
            yield _line([f"{source} → {target}, {name}", *_means(choices, keys)])
    yield _line(["**mean**", *_means(every, keys)])


def _means(choices: Sequence[dict[str, float]], keys: Sequence[str]) -> list[str]:
    return [f"{statistics.mean(choice[key] for choice in choices):.3f}" for key in ("best", *keys)]


def write(name: str, text: str, page: Path = PAGE) -> None:
    """Write a table between the marks ``<!-- name -->`` and ``<!-- end -->`` of a page."""
    marks = re.compile(rf"(<!-- {re.escape(name)} -->\n).*?(<!-- end -->)", re.DOTALL)
    before = page.read_text(encoding="utf-8")
    if not marks.search(before):
        raise SystemExit(
            f"{page.name} has no place for '{name}': "
            f"add the marks <!-- {name} --> and <!-- end -->."
        )
    page.write_text(
        marks.sub(lambda found: f"{found[1]}\n{text.strip()}\n\n{found[2]}", before),
        encoding="utf-8",
    )
