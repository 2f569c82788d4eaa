"""The job of suggesting: one queue for several targets, and lots for an audit."""

from __future__ import annotations

import pytest

from napari_emda.data.volume import Box
from napari_emda.errors import JobError
from napari_emda.events import Suggested
from napari_emda.execution import execute
from napari_emda.jobs import SuggestJob
from napari_emda.project import Project
from napari_emda.settings import QuerySettings


@pytest.fixture
def two_targets(project, phantoms):
    path = project.store("second", phantoms["target"][0][:2, :64])
    project.add_volume(path, "target", name="second", spacing=(50, 8, 8))
    return project


def ask(project, *, volume=None, audit=False, **settings):
    """What is suggested, without a model."""
    query = QuerySettings.parse({"strategy": "random", "patch": 16, "count": 12, **settings})
    job = SuggestJob(project=str(project.folder), volume=volume, audit=audit, settings=query)
    events = list(execute(job))
    (suggested,) = [event for event in events if isinstance(event, Suggested)]
    assert events[-1].result["regions"] == list(suggested.regions)
    return list(suggested.regions)


def test_the_best_of_all_targets_come_in_one_queue(two_targets):
    regions = ask(two_targets)
    assert {region["volume"] for region in regions} == {"target", "second"}
    each = {name: ask(two_targets, volume=name) for name in ("target", "second")}
    best = sorted(each["target"] + each["second"], key=lambda region: -region["score"])[:12]
    assert regions == best


def test_those_by_lot_come_last_and_from_all_targets_alike(two_targets):
    *_, a, b, c, d = ask(two_targets, random_share=1 / 3)
    assert sorted(region["volume"] for region in (a, b, c, d)) == ["second", "second", "target", "target"]
    assert len(ask(two_targets, random_share=1 / 3)) == 12


def test_one_target_can_be_asked_for(two_targets):
    assert {region["volume"] for region in ask(two_targets, volume="second", count=4)} == {"second"}
    with pytest.raises(JobError, match="Did you mean 'second'"):
        ask(two_targets, volume="secnd")


def test_what_was_decided_is_neither_suggested_nor_drawn_again(two_targets):
    for state in ("accepted", "skipped", "unsure"):
        for region in two_targets.suggest(ask(two_targets, count=5), "random", ""):
            two_targets.record(region.model_copy(update={"state": state}))
    decided = [(r.volume, r.voxels) for r in Project.open(two_targets.folder).regions()]
    assert len(decided) == 15
    for regions in (ask(two_targets), ask(two_targets, audit=True)):
        shapes = {"target": (4, 96, 96), "second": (2, 64, 96)}
        new = [(region["volume"], Box.parse(region["box"], shapes[region["volume"]])) for region in regions]
        assert not any(name == other and box.overlaps(known) for name, box in new for other, known in decided)


def test_another_round_draws_another_lot(two_targets):
    first = ask(two_targets, audit=True)
    assert first == ask(two_targets, audit=True)
    two_targets.suggest(first, "audit", "")
    assert first != ask(two_targets, audit=True)


def test_imported_labels_that_leave_voxels_open_do_not_end_the_questions(project, phantoms):
    project.import_labels(phantoms["target"][1], "target")
    assert len(ask(project)) == 12
