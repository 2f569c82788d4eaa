"""The suggestion job: one queue for several targets, and random patches for an audit."""

from __future__ import annotations

import numpy as np
import pytest

from napari_emda.data.box import Box
from napari_emda.errors import JobError
from napari_emda.events import Notice, Suggested
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
    """The patches that are suggested without a model."""
    query = QuerySettings.parse({"strategy": "random", "patch": 16, "count": 12, **settings})
    job = SuggestJob(project=str(project.folder), volume=volume, audit=audit, settings=query)
    events = list(execute(job))
    (suggested,) = [event for event in events if isinstance(event, Suggested)]
    assert events[-1].result["regions"] == list(suggested.regions)
    return list(suggested.regions)


def test_the_best_of_all_targets_come_in_one_queue(two_targets):
    regions = ask(two_targets)
    assert {region["volume"] for region in regions} == {"target", "second"}
    by_target = {name: ask(two_targets, volume=name) for name in ("target", "second")}
    best = sorted(by_target["target"] + by_target["second"], key=lambda region: -region["score"])[
        :12
    ]
    assert regions == best


def test_random_patches_come_last_and_all_positions_of_all_targets_are_equally_likely(two_targets):
    """4 x 21 x 21 positions in one target, 2 x 13 x 21 in the other."""
    drawn = []
    for seed in range(60):
        regions = ask(two_targets, random_share=1 / 6, seed=seed)
        assert len(regions) == 12
        assert "tie_breaker" not in regions[-1]
        drawn += [region["volume"] for region in regions[-2:]]
    share = 2 * 13 * 21 / (2 * 13 * 21 + 4 * 21 * 21)
    assert abs(drawn.count("second") - 120 * share) < 4 * (120 * share * (1 - share)) ** 0.5


def test_targets_of_one_size_get_random_patches_at_other_places(project, phantoms):
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


def test_suggestions_in_a_source_are_refused(project):
    with pytest.raises(
        JobError,
        match="'source' is a source and has labels already: choose a target, such as 'target'",
    ):
        ask(project, volume="source")


def test_patches_of_one_target_can_be_suggested(two_targets):
    assert {region["volume"] for region in ask(two_targets, volume="second", count=4)} == {"second"}
    with pytest.raises(JobError, match="Did you mean 'second'"):
        ask(two_targets, volume="secnd")


def test_decided_patches_are_neither_suggested_nor_drawn_again(two_targets):
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
            name == decided_name and box.overlaps(decided_box)
            for name, box in new
            for decided_name, decided_box in decided
        )


def test_another_round_draws_other_patches(two_targets):
    first = ask(two_targets, audit=True)
    assert first == ask(two_targets, audit=True)
    two_targets.regions.suggest(first, "audit", "")
    assert first != ask(two_targets, audit=True)


def test_an_audit_draws_no_patch_with_an_annotated_voxel(project, phantoms):
    labels = phantoms["target"][1].copy()
    labels[:, 40:] = 0  # of imported labels, 0 is unannotated
    project.annotations.import_labels(labels, "target")
    drawn = [
        Box.parse(region["box"], labels.shape) for region in ask(project, audit=True, count=1000)
    ]
    tiles = (labels.reshape(4, 6, 16, 6, 16) > 0).any((2, 4))
    assert sorted(box.start for box in drawn) == [
        (z, 16 * y, 16 * x) for z, y, x in np.argwhere(~tiles).tolist()
    ]


def test_an_audit_says_why_it_draws_fewer_patches_than_asked_for(project, noise):
    bordered = noise.normal(120, 25, (2, 96, 96)).clip(1, 255).astype(np.uint8)
    bordered[:, :, :48] = 0
    path = project.volumes.store("bordered", bordered)
    project.volumes.add(path, "target", name="bordered", spacing=(50, 8, 8))
    query = QuerySettings.parse({"strategy": "random", "patch": 32, "count": 20})
    job = SuggestJob(project=str(project.folder), volume="bordered", audit=True, settings=query)
    events = list(execute(job))
    (notice,) = [event.text for event in events if isinstance(event, Notice)]
    # Of the columns of tiles, the first is padding, and so is half of the second.
    assert notice.startswith("Only 6 of the 20 patches were drawn: all others of 32 pixels hold")
    boxes = [Box.parse(region["box"], bordered.shape) for region in events[-1].result["regions"]]
    assert {box.start[2] for box in boxes} == {64}


def test_patches_are_suggested_where_imported_labels_leave_voxels_unannotated(project, phantoms):
    project.annotations.import_labels(phantoms["target"][1], "target")
    assert len(ask(project)) == 12
