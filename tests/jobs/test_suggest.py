"""The job of suggesting: one queue for several targets, and lots for an audit."""

from __future__ import annotations

import numpy as np
import pytest

from napari_emda.data.box import Box
from napari_emda.errors import JobError
from napari_emda.events import Suggested
from napari_emda.jobs.execute import execute
from napari_emda.project.job_files import SuggestJob
from napari_emda.project.project import Project
from napari_emda.settings.suggestion import QuerySettings


@pytest.fixture
def two_targets(project, phantoms):
    path = project.volumes.store("second", phantoms["target"][0][:2, :64])
    project.volumes.add(path, "target", name="second", spacing=(50, 8, 8))
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


def test_those_by_lot_come_last_and_every_position_is_as_likely_whatever_its_target(two_targets):
    """4 x 21 x 21 positions in one target, 2 x 13 x 21 in the other."""
    drawn = []
    for seed in range(150):
        regions = ask(two_targets, random_share=1 / 6, seed=seed)
        assert len(regions) == 12
        assert "tie_breaker" not in regions[-1]
        drawn += [region["volume"] for region in regions[-2:]]
    share = 2 * 13 * 21 / (2 * 13 * 21 + 4 * 21 * 21)
    assert abs(drawn.count("second") - 300 * share) < 4 * (300 * share * (1 - share)) ** 0.5


def test_targets_of_one_size_are_not_asked_at_the_same_places(project, phantoms):
    project.volumes.add(
        project.volumes.store("twin", phantoms["target"][0]),
        "target",
        name="twin",
        spacing=(50, 8, 8),
    )
    boxes = {
        name: {region["box"] for region in ask(project, volume=name)} for name in ("target", "twin")
    }
    assert not boxes["target"] & boxes["twin"]


def test_a_source_is_never_asked_about(project):
    with pytest.raises(
        JobError,
        match="'source' is a source, whose labels are known: choose a target, such as 'target'",
    ):
        ask(project, volume="source")


def test_one_target_can_be_asked_for(two_targets):
    assert {region["volume"] for region in ask(two_targets, volume="second", count=4)} == {"second"}
    with pytest.raises(JobError, match="Did you mean 'second'"):
        ask(two_targets, volume="secnd")


def test_what_was_decided_is_neither_suggested_nor_drawn_again(two_targets):
    for state in ("accepted", "skipped", "unsure"):
        for region in two_targets.regions.suggest(ask(two_targets, count=5), "random", ""):
            two_targets.regions.record(region.model_copy(update={"state": state}))
    decided = [(r.volume, r.voxels) for r in Project.open(two_targets.folder).regions.all()]
    assert len(decided) == 15
    for regions in (ask(two_targets), ask(two_targets, audit=True)):
        shapes = {"target": (4, 96, 96), "second": (2, 64, 96)}
        new = [
            (region["volume"], Box.parse(region["box"], shapes[region["volume"]]))
            for region in regions
        ]
        assert not any(
            name == other and box.overlaps(known) for name, box in new for other, known in decided
        )


def test_another_round_draws_another_lot(two_targets):
    first = ask(two_targets, audit=True)
    assert first == ask(two_targets, audit=True)
    two_targets.regions.suggest(first, "audit", "")
    assert first != ask(two_targets, audit=True)


def test_an_audit_draws_no_patch_that_training_has_seen_a_voxel_of(project, phantoms):
    labels = phantoms["target"][1].copy()
    labels[:, 40:] = 0  # imported where somebody looked; the rest is open
    project.annotations.import_labels(labels, "target")
    drawn = [
        Box.parse(region["box"], labels.shape) for region in ask(project, audit=True, count=1000)
    ]
    tiles = (labels.reshape(4, 6, 16, 6, 16) > 0).any((2, 4))
    assert sorted(box.start for box in drawn) == [
        (z, 16 * y, 16 * x) for z, y, x in np.argwhere(~tiles).tolist()
    ]


def test_imported_labels_that_leave_voxels_open_do_not_end_the_questions(project, phantoms):
    project.annotations.import_labels(phantoms["target"][1], "target")
    assert len(ask(project)) == 12
