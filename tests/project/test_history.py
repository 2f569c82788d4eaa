"""Every decision is taken back and repeated, in any order of kinds, and after a restart."""

import numpy as np
import pytest

from napari_emda.project.project import Project
from napari_emda.project.undo import Decision
from tests.gui.fake import clusters_of

SHAPE = (3, 24, 24)
BOXES = ["0:1,0:8,0:8", "1:2,4:20,0:10", "2:3,0:3,5:9"]


@pytest.fixture
def project(tmp_path):
    with Project.create(tmp_path / "project", ("background", "mitochondria", "vesicles")) as made:
        path = made.volumes.store("t", np.zeros(SHAPE, np.uint8))
        made.volumes.add(path, "target", name="t", spacing=(50, 5, 5))
        yield made


def labels():
    values = np.zeros(SHAPE, np.uint8)
    values[:, :12, :12] = 1
    return values


def suggestions(project, boxes=BOXES, strategy="random"):
    return project.regions.suggest([{"volume": "t", "box": box} for box in boxes], strategy, "")


def painted(project):
    array = Project.open(project.folder).annotations.open("t")
    return None if array is None else np.asarray(array[:])


def state(project):
    """All that a decision can change."""
    found = painted(project)
    regions = {r.id: (r.state, r.round) for r in project.regions.all() if r.state != "replaced"}
    return regions, None if found is None else found.tobytes()


def accept(project, region):
    array = project.annotations.require("t")
    region = next(other for other in project.regions.all() if other.id == region.id)
    before = np.asarray(array[region.voxels.slices])
    project.regions.decisions.add(Decision(region, before))
    values = np.maximum(before, 1)
    values[:, 2:, 2:] += 1
    return project.annotations.accept(region, values)


def test_a_mixture_is_taken_back_and_repeated_step_by_step(project):
    project.annotations.require("t")
    history = [state(project)]
    first = suggestions(project)
    history.append(state(project))
    accept(project, first[0])
    history.append(state(project))
    project.annotations.import_labels(labels(), "t")
    history.append(state(project))
    audit = suggestions(project, ["0:1,12:20,12:20"], "audit")
    history.append(state(project))
    accept(project, first[0])  # of an earlier round, a second time
    history.append(state(project))
    project.regions.drop(audit, "end of audit")
    history.append(state(project))
    folder = project.folder
    project.close()
    project = Project.open(folder, exclusive=True)
    assert len({str(entry) for entry in history}) == len(history)
    for expected in reversed(history[:-1]):
        assert project.history.undo() is not None
        assert state(project) == expected
    assert project.history.undo() is None
    for expected in history[1:]:
        assert project.history.redo() is not None
        assert state(project) == expected
    assert project.history.redo() is None
    project.close()


def test_a_new_decision_ends_what_can_be_repeated(project):
    project.annotations.import_labels(labels(), "t")
    (record,) = (project.folder / "undo").iterdir()
    project.history.undo()
    assert record.exists()
    suggestions(project)
    assert project.history.redo() is None
    assert not record.exists()


def test_taking_an_import_back_spares_what_was_painted_since_and_before(project):
    array = project.annotations.require("t")
    array[0, 0, 0] = 3
    project.annotations.import_labels(labels(), "t")
    array[0, 5, 5] = 1
    project.history.undo()
    expected = np.zeros(SHAPE, np.uint8)
    expected[0, 0, 0] = 3
    expected[0, 5, 5] = 1
    assert np.array_equal(painted(project), expected)
    assert not project.regions.any_annotated()


def test_an_import_puts_numbers_back_that_it_had_replaced(project):
    array = project.annotations.require("t")
    array[1, 2, 2] = 9
    project.annotations.import_labels(labels(), "t")
    assert painted(project)[1, 2, 2] == 2
    project.history.undo()
    assert (painted(project)[1, 2, 2], painted(project).sum()) == (9, 9)


def test_names_of_clusters_are_taken_back_and_repeated(project):
    clusters_of(project, "t")
    run = "001-iic"
    for names in ({1: "mitochondria"}, {1: "mitochondria", 2: "vesicles"}):
        project.predictions.name_clusters(run, "t", names)
    project.predictions.name_clusters(run, "t", {1: "mitochondria", 2: "vesicles"})  # no change
    project.history.undo()
    assert project.run(run).cluster_names() == {1: "mitochondria"}
    project.history.undo()
    assert project.run(run).cluster_names() == {}
    project.history.redo()
    assert project.run(run).cluster_names() == {1: "mitochondria"}


def test_the_round_before_is_in_the_queue_again(project):
    first = suggestions(project)
    suggestions(project, BOXES[:1])
    assert project.regions.round == 2
    project.history.undo()
    assert project.regions.round == 1
    assert [r.id for r in project.regions.all() if r.state == "suggested"] == [r.id for r in first]
