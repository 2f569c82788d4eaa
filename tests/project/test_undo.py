"""Decisions can be taken back, after a crash as well."""

import numpy as np
import pytest

from napari_emda.data.box import Box
from napari_emda.project.project import Project
from napari_emda.project.region import Region
from napari_emda.project.undo import Decision, DecisionLog


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


def test_decisions_before_a_new_round_or_an_import_are_forgotten(tmp_path, decisions):
    with Project.create(tmp_path / "project", ("background", "mitochondria")) as project:
        image = np.zeros((3, 24, 24), np.uint8)
        project.volumes.add(
            project.volumes.store("t", image), "target", name="t", spacing=(50, 5, 5)
        )
        project.regions.decisions.add(decisions[0])
        project.regions.suggest(
            [{"volume": "t", "box": str(Box((0, 0, 0), (1, 8, 8)))}], "random", ""
        )
        assert project.regions.decisions.last() is None
        project.regions.decisions.add(decisions[0])
        project.annotations.import_labels(np.eye(24, dtype=np.uint8)[None].repeat(3, 0), "t")
        assert project.regions.decisions.last() is None
