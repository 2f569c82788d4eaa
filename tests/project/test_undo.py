"""Decisions can be taken back, after a crash as well."""

import base64
import json
import zlib

import numpy as np
import pytest

from napari_emda.project.region import Region
from napari_emda.project.undo import (
    ClusterNames,
    Decision,
    DecisionLog,
    LabelImport,
    RegionStates,
)


@pytest.fixture
def decisions(noise):
    boxes = ("0:1,0:8,0:8", "2:3,4:20,0:10", "1:2,0:3,5:9")
    regions = [Region(id=f"{k}", volume="t", box=box, score=0.1 * k) for k, box in enumerate(boxes)]
    return [
        Decision(region, noise.integers(0, 3, region.voxels.shape).astype(np.uint8))
        for region in regions
    ]


def equal(decision, other):
    return decision.before == other.before and np.array_equal(decision.painted, other.painted)


def test_the_latest_decision_is_taken_back_first(tmp_path, decisions):
    path = tmp_path / "undo.jsonl"
    assert DecisionLog(path).last() is None
    for decision in decisions:
        DecisionLog(path).add(decision)
    for decision in reversed(decisions):
        assert equal(DecisionLog(path).last(), decision)
        DecisionLog(path).drop()
    assert DecisionLog(path).last() is None


def test_an_incomplete_line_is_skipped(tmp_path, decisions):
    path = tmp_path / "undo.jsonl"
    log = DecisionLog(path)
    log.add(decisions[0])
    log.add(decisions[1])
    path.write_bytes(path.read_bytes()[:-40])
    assert equal(log.last(), decisions[0])
    log.add(decisions[2])
    log.drop()
    assert equal(log.last(), decisions[0])
    log.drop()
    assert log.last() is None


def test_lines_of_the_first_version_are_read(tmp_path, decisions):
    """They held the region and its paint, and nothing else."""
    packed = base64.b64encode(zlib.compress(decisions[0].painted.tobytes())).decode()
    line = json.dumps({"before": decisions[0].before.model_dump(), "painted": packed})
    (tmp_path / "undo.jsonl").write_text(line + "\n")
    assert equal(DecisionLog(tmp_path / "undo.jsonl").last(), decisions[0])


@pytest.mark.parametrize(
    "change",
    [
        RegionStates((Region(id="a", volume="t", box="0:1,0:8,0:8"),), "audit"),
        LabelImport(Region(id="b", volume="t", box="0:3,0:8,0:8"), done=True),
        ClusterNames("001-iic", {2: "mitochondria"}),
    ],
)
def test_other_changes_are_written_and_read(change, tmp_path):
    log = DecisionLog(tmp_path / "undo.jsonl")
    log.add(change)
    assert log.last() == change


@pytest.mark.parametrize("line", ["[]", "3", '"painted"', '{"names": 3}', "{}", '{"painted": 1}'])
def test_a_damaged_line_is_skipped(line, tmp_path, decisions):
    log = DecisionLog(tmp_path / "undo.jsonl")
    log.add(decisions[0])
    with (tmp_path / "undo.jsonl").open("a") as file:
        file.write(line + "\n")
    assert equal(log.last(), decisions[0])
