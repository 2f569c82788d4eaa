"""Job files and lines of events: reading gives what was written."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_emda import events
from napari_emda.errors import JobError
from napari_emda.events import from_json
from napari_emda.project.job_files import (
    ExportJob,
    PredictJob,
    ScoreJob,
    SuggestJob,
    TrainJob,
    read_job,
    write_job,
)
from napari_emda.settings.prediction import PredictSettings
from napari_emda.settings.suggestion import QuerySettings
from napari_emda.settings.training import TrainSettings

JOBS = [
    TrainJob(
        project="p",
        method="ynet",
        method_settings={"reconstruction": 0.2},
        settings=TrainSettings(steps=7),
    ),
    TrainJob(project="p", method="", resume="001-ynet"),
    PredictJob(
        project="p", run="001-a", volume="v", out="x.tif", settings=PredictSettings(flips="on")
    ),
    SuggestJob(project="p", settings=QuerySettings(strategy="random", count=3)),
    ExportJob(project="p", what="mask", to="m.tif", settings={"threshold": 0.3}),
    ScoreJob(project="p", against="labels.tif", box="0:1,:,:"),
]


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.kind)
def test_a_job_file_is_read_as_it_was_written(job, tmp_path):
    write_job(job, tmp_path / "job.json")
    assert read_job(tmp_path / "job.json") == job
    assert [path.name for path in tmp_path.iterdir()] == ["job.json"]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("", "its text"),
        ("{", "its text"),
        ("[]", "its text"),
        ('{"project": "p"}', "kind"),
        ('{"kind": "dance"}', "kind"),
        ('{"kind": "train", "project": "p"}', "method"),
        (
            '{"kind": "train", "project": "p", "method": "a", "settings": {"steps": 0}}',
            "settings.steps",
        ),
        (
            '{"kind": "train", "project": "p", "method": "a", "settings": {},'
            ' "network_settings": 1}',
            "network_settings",
        ),
        (
            '{"kind": "export", "project": "p", "what": "mask", "to": "a.tif", "threshold": 0.5,'
            ' "settings": 1}',
            "settings",
        ),
        ('{"kind": "predict", "project": "p", "format": 2}', "format"),
        ('{"kind": "predict", "project": "p", "color": 1}', "color"),
    ],
)
def test_an_invalid_job_file_is_refused_with_the_place(text, place, tmp_path):
    (tmp_path / "job.json").write_text(text)
    with pytest.raises(
        JobError,
        match=rf"is not a job: '{place}' is (missing|wrong).*"
        r"compare it with the job\.json of a run\.",
    ):
        read_job(tmp_path / "job.json")


@pytest.mark.parametrize(
    ("what", "settings"), [("mask", {"threshold": 0.3, "minimum_size": 9}), ("probabilities", {})]
)
def test_an_export_of_the_first_version_is_read(what, settings, tmp_path):
    """Its settings were fields of the job, whether the export used them or not."""
    old = {"kind": "export", "project": "p", "what": what, "to": "m.zarr"}
    old |= {"threshold": 0.3, "minimum_size": 9, "overwrite": True}
    (tmp_path / "job.json").write_text(json.dumps(old))
    job = read_job(tmp_path / "job.json")
    assert job == ExportJob(project="p", what=what, to="m.zarr", settings=settings, overwrite=True)


def test_a_missing_job_file_is_named(tmp_path):
    with pytest.raises(JobError, match=r"job\.json' cannot be read .*name an existing one"):
        read_job(tmp_path / "job.json")


words = st.text(max_size=9)
numbers = st.integers(0, 10**6)
boxes = st.tuples(*[st.integers(0, 99)] * 6)
losses = st.dictionaries(words, st.floats(allow_nan=False, allow_infinity=False), max_size=3)
regions = st.lists(
    st.fixed_dictionaries({"volume": words, "box": words, "score": st.floats(0, 1)}), max_size=3
)
EVENTS = {
    events.Started: st.tuples(words, words, words, numbers),
    events.Phase: st.tuples(words, st.floats(0, 1e6), losses, st.booleans()),
    events.Advanced: st.tuples(numbers, numbers),
    events.Stepped: st.tuples(numbers, numbers, losses, st.floats(0, 1e6)),
    events.Validated: st.tuples(numbers, losses),
    events.Preview: st.tuples(numbers, words, boxes, words),
    events.Translated: st.tuples(numbers, words, boxes, words),
    events.Saved: st.tuples(words, numbers),
    events.TileDone: st.tuples(words, boxes, numbers, numbers),
    events.Suggested: st.tuples(regions.map(tuple)),
    events.Notice: st.tuples(words),
    events.Stopping: st.tuples(st.floats(0, 1e6)),
    events.Finished: st.tuples(
        words, words, st.dictionaries(words, st.lists(numbers, max_size=2), max_size=2), words
    ),
    events.Failed: st.tuples(words, st.booleans()),
}


@pytest.mark.parametrize("kind", events.Event.__subclasses__())
@settings(max_examples=20)
@given(data=st.data())
def test_an_event_is_read_as_it_was_written(kind, data):
    event = kind(*data.draw(EVENTS[kind]))
    line = event.to_json()
    assert "\n" not in line
    assert from_json(line) == event


@pytest.mark.parametrize(
    "line",
    [
        "",
        "hello",
        "[]",
        "1",
        '{"event": "party"}',
        '{"event": "notice"}',
        "{}",
        json.dumps({"event": "notice", "text": "a", "more": 1}),
    ],
)
def test_an_invalid_line_is_refused(line):
    with pytest.raises(JobError, match="Not an event"):
        from_json(line)
