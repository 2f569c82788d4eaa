"""The papers' tables: what they ask for exists, and results stand beside published values."""

from __future__ import annotations

import argparse
import json

import pytest

from benchmarks import active_learning, adaptation, few_labels
from benchmarks.papers import NUCLEI, STRATEGIES, TABLES
from napari_emda.active_learning.strategy import strategies


def written(path, result):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result))


@pytest.fixture
def arguments(tmp_path):
    return argparse.Namespace(data=tmp_path, work=tmp_path, jobs=1, seeds=2, steps=None)


@pytest.mark.parametrize("table", ["roels2019", "francobarranco2022"])
def test_adaptation_lines_are_those_of_the_runs(table, arguments):
    rows = {row.name: row for row in adaptation.ROWS}
    command = TABLES[table].command(arguments)
    asked = command[command.index("--rows") + 1 :]
    for pair in adaptation.REAL:
        for number, name in enumerate(asked):
            for seed in (0, 1):
                slug = adaptation.slug_of("p2", pair, rows[name], seed)
                result = {"iou": 0.1 * number + 0.02 * seed}
                written(arguments.work / "runs" / slug / "result.json", result)
    lines = TABLES[table].lines(arguments)
    assert len(lines) == 2 * len(asked)
    assert [line[3] for line in lines[:2]] == ["0.010 ± 0.014", "0.110 ± 0.014"]
    assert any(line[2] != "–" for line in lines)


def test_strategies_are_compared_with_random_patches(arguments):
    assert {*STRATEGIES} < {*strategies.names()}
    for data, _ in adaptation.REAL:
        for strategy in ("random", *STRATEGIES):
            for seed in (0, 1):
                level = 0.5 if strategy == "random" else 0.55 + 0.05 * seed
                name = active_learning.Cell((data,), strategy, seed).slug + ".json"
                result = {"iou": [level, level], "patches": [20, 40]}
                written(arguments.work / "pool" / name, result)
    lines = TABLES["roelssaeys2019"].lines(arguments)
    assert {line[3] for line in lines} == {"+15.0 % (+10.0, +20.0)"}


def test_few_labels_are_compared_at_the_shares_of_the_study(arguments):
    names = {row.name for row in few_labels.ROWS}
    command = TABLES["semi2021"].command(arguments)
    asked = command[command.index("--rows") + 1 :]
    assert {*asked} < names
    results = arguments.work / f"labels-{few_labels.P2.steps}"
    for name in asked:
        for share in (10, 25, 50):
            assert share in few_labels.DATA[NUCLEI].shares
            for seed in (0, 1):
                both = {"supervised": share / 100, "total": share / 50}
                written(few_labels.Cell(NUCLEI, share, name, seed).path(results), {"both": both})
    lines = TABLES["semi2021"].lines(arguments)
    assert [line[2:] for line in lines[:2]] == [
        ("0.927", "0.100 ± 0.000"),
        ("0.943", "0.250 ± 0.000"),
    ]
