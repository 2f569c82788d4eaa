"""The tables of `few_labels.py` as Markdown; missing results are marked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import mean, median, stdev
from typing import Any

from benchmarks.few_labels_data import DATA

BASELINE, WITHOUT, CEILING = "supervised only", "uda without agreement", "supervised, all labels"
Key = tuple[str, int, str, int]
"""Volume, share of labels in per cent or number of clusters, row, seed."""
Results = Mapping[Key, Mapping[str, Any]]

MISSING = "not yet measured"
MODELS = {
    "supervised": "least supervised loss",
    "total": "least total loss",
    "last": "last",
    "selected": "best looking three",
}
LINES = (
    (BASELINE, "last"),
    (BASELINE, "selected"),
    (WITHOUT, "last"),
    *((row, model) for row in ("uda, kl", "uda, iid", "mean_teacher") for model in MODELS),
)
# Supplement of the comparative study, tables S1 and S2: FluoHoechst at 10, 25 and 50 % of the
# labels
STUDY = {
    ("uda, kl", "supervised"): (0.9273, 0.9427, 0.9377),
    ("uda, kl", "total"): (0.9273, 0.9043, 0.8930),
    ("uda, iid", "supervised"): (0.9516, 0.9340, 0.9343),
    ("uda, iid", "total"): (0.9350, 0.9340, 0.8114),
}
LESS, FEW = -0.01, 10


# -- few labels ------------------------------------------------------------------------------------


def label_tables(results: Results) -> Iterator[str]:
    """A table per volume: IoU by row and fraction of labels, and the gain over the labels alone."""
    for data, entry in DATA.items():
        ious = {key[1:]: one["iou"] for key, one in results.items() if key[0] == data}
        ceiling = [one["last"] for (_, row, _), one in ious.items() if row == CEILING]
        yield from (f"### {data}", "", f"With all labels: IoU {spread(ceiling)}.", "")
        studied = ["the study, FluoHoechst"] if entry.fields else []
        yield from head(
            [
                "row",
                "model",
                *(f"{share} %" for share in entry.shares),
                "seconds a run (median)",
                *studied,
            ]
        )
        for row, model in LINES:
            cells = [_cell(ious, share, row, model) for share in entry.shares]
            seconds = [
                one["seconds"]
                for (where, _, name, _), one in results.items()
                if (where, name) == (data, row)
            ]
            numbers = STUDY.get((row, model), ())
            study = [" / ".join(f"{value:.3f}" for value in numbers)] if entry.fields else []
            yield line(
                [row, MODELS[model], *cells, f"{median(seconds):.0f}" if seconds else "", *study]
            )
        yield ""
        if entry.fields:
            yield from _both_classes(
                {key[1:]: one for key, one in results.items() if key[0] == data}, entry.shares
            )
    yield from _verdict(results)


def _both_classes(
    results: Mapping[tuple[int, str, int], Mapping[str, Any]], shares: Sequence[int]
) -> Iterator[str]:
    """The same as the mean over both classes, which the study may have reported."""
    yield from ("Mean IoU of background and foreground:", "")
    yield from head(["row", "model", *(f"{share} %" for share in shares)])
    for row, model in LINES:
        found = [
            [
                one["both"][model]
                for (s, name, _), one in results.items()
                if (s, name) == (share, row)
            ]
            for share in shares
        ]
        yield line([row, MODELS[model], *map(spread, found)])
    yield ""


def _cell(
    ious: Mapping[tuple[int, str, int], Mapping[str, float]], share: int, row: str, model: str
) -> str:
    found = {
        seed: one[model]
        for (s, r, seed), one in ious.items()
        if (s, r) == (share, row) and model in one
    }
    if not found or (row, model) == (BASELINE, "last"):
        return spread(list(found.values()))
    alone = {seed: one["last"] for (s, r, seed), one in ious.items() if (s, r) == (share, BASELINE)}
    gains = [found[seed] - alone[seed] for seed in found if seed in alone]
    return spread(list(found.values())) + (f" ({gain(gains)})" if gains else "")


def _verdict(results: Results) -> Iterator[str]:
    """Where consistency costs more than 0.01, and where it helps with few labels."""
    for baseline in (BASELINE, WITHOUT):
        gains: dict[tuple[str, int, str], list[float]] = {}
        for (data, share, row, seed), one in results.items():
            alone = results.get((data, share, baseline, seed))
            if row in ("uda, kl", "uda, iid") and alone is not None:
                difference = one["iou"]["supervised"] - alone["iou"]["last"]
                gains.setdefault((data, share, row), []).append(difference)
        worse = [_named(key, values) for key, values in gains.items() if mean(values) < LESS]
        better = [
            _named(key, v) for key, v in gains.items() if key[1] <= FEW and mean(v) > 2 * error(v)
        ]
        yield f"`uda` (least supervised loss) against *{baseline}*, of {len(gains)} compared:"
        yield ""
        nothing = "none" if gains else MISSING
        yield f"- more than {-LESS} below: {'; '.join(worse) or nothing}."
        yield f"- above by two standard errors at {FEW} % or less: {'; '.join(better) or nothing}."
        yield ""


def _named(key: tuple[str, int, str], values: Sequence[float]) -> str:
    data, share, row = key
    return f"{data}, {share} %, {row.removeprefix('uda, ')}: {gain(values)}"


# -- no labels -------------------------------------------------------------------------------------


def cluster_tables(results: Results) -> Iterator[str]:
    """How useful the clusters are, and then five patches with and without them."""
    rows: dict[tuple[str, int], list[Mapping[str, Any]]] = {
        (data, k): [] for data, entry in DATA.items() for k in entry.clusters
    }
    for (data, k, _, _), one in results.items():
        rows[data, k].append(one)
    yield from head(
        [
            "volume",
            "clusters",
            "IoU of the best set",
            "of the best cluster",
            "structure covered by the set",
            "clusters in the set",
            "information / log k",
            "minutes",
        ]
    )
    for (data, k), done in rows.items():
        ious = (_over(done, key) for key in ("iou", "one", "covered"))
        size = f"{mean(len(one['clusters']) for one in done):.1f}" if done else ""
        minutes = f"{median(one['seconds'] for one in done) / 60:.1f}" if done else ""
        yield line(
            [data, str(k), *ious, size, f"{_over(done, 'information')}" if done else "", minutes]
        )
    yield from ("", "Five patches:", "")
    keys = ["named", "from clusters", "alone", "random"]
    yield from head(
        [
            "volume",
            "clusters",
            "clusters named, no patch",
            "five patches, from the clusters' run",
            "the same patches alone",
            "five random patches alone",
            "pixels to correct",
            "to paint from nothing",
        ]
    )
    for (data, k), done in rows.items():
        patches = [one["patches"] for one in done]
        painted = [
            f"{mean(p[key] for p in patches):.1%}" if done else ""
            for key in ("corrected", "from nothing")
        ]
        yield line([data, str(k), *(_over(patches, key) for key in keys), *painted])


def _over(done: Sequence[Mapping[str, Any]], key: str) -> str:
    return spread([float(one[key]) for one in done])


# -- Markdown --------------------------------------------------------------------------------------


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation."""
    if not values:
        return MISSING
    return f"{mean(values):.3f}" + (f" ± {stdev(values):.3f}" if len(values) > 1 else ", one seed")


def error(values: Sequence[float]) -> float:
    """Standard error of the mean; nan for a single value."""
    return stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("inf")


def gain(values: Sequence[float]) -> str:
    """Mean paired difference and its standard error."""
    return f"{mean(values):+.3f}" + (f" ± {error(values):.3f}" if len(values) > 1 else "")


def head(cells: Sequence[str]) -> Iterator[str]:
    """The first two lines of a table."""
    yield line(cells)
    yield "|---" * len(cells) + "|"


def line(cells: Sequence[str]) -> str:
    """A line of a table."""
    return "| " + " | ".join(cells) + " |"
