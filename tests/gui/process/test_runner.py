"""The child process: events in order, a last word always, a sure end."""

import contextlib
import json
import os
import signal
import socket
import sys
from types import SimpleNamespace

import psutil
import pytest

from napari_emda._gui.process import catalogue
from napari_emda._gui.process import runner as runner_module
from napari_emda._gui.process.child import Child
from napari_emda._gui.process.runner import ChildDied, Ending, Runner, watch
from napari_emda.errors import JobError
from napari_emda.events import Failed, Finished, Notice, Started, Stepped, Stopping
from napari_emda.project.job_files import TrainJob, write_job
from napari_emda.project.job_folder import JobFolder
from napari_emda.project.owner import Owner
from napari_emda.project.run_folder import RunFolder
from napari_emda.settings.training import TrainSettings
from tests.gui.fake import fake_command

posix = pytest.mark.skipif(os.name != "posix", reason="Windows has no SIGKILL")


def job(tmp_path, steps=100):
    (tmp_path / "project" / "runs").mkdir(parents=True, exist_ok=True)
    return TrainJob(
        project=str(tmp_path / "project"), method="histogram", settings=TrainSettings(steps=steps)
    )


def child(tmp_path, behaviour="work", steps=100):
    return Child(fake_command(behaviour), JobFolder.new(job(tmp_path, steps)))


def events(one):
    return [event for batch in watch(one) for event in batch]


def test_events_come_in_order_and_other_output_is_ignored(tmp_path):
    seen = events(child(tmp_path))
    assert isinstance(seen[0], Started)
    assert [event.step for event in seen if isinstance(event, Stepped)] == list(range(10, 101, 10))
    assert isinstance(seen[-1], Finished)


def test_batches_come_at_most_ten_times_a_second_and_also_when_nothing_comes(tmp_path, monkeypatch):
    pauses = []
    clock = SimpleNamespace(monotonic=lambda: 0.0, sleep=pauses.append)
    monkeypatch.setattr(runner_module, "time", clock)
    # Shorter than any interpreter takes to start, so that at first nothing comes.
    monkeypatch.setattr(runner_module, "BEAT", 0.005)
    batches = list(watch(child(tmp_path, steps=400)))
    after = list(zip(pauses, batches, strict=True))
    assert all(pause == 0.005 for pause, batch in after if batch)
    assert any(pause == 0 for pause, _ in after)
    assert any(
        not batch for batch in batches
    )  # while the interpreter started: the worker can be left then


@posix
def test_a_killed_child_has_a_last_word(tmp_path):
    one = child(tmp_path, steps=10_000)
    seen = []
    for batch in watch(one):
        seen += batch
        if any(isinstance(event, Stepped) for event in seen) and one.process_id:
            os.kill(one.process_id, signal.SIGKILL)
    assert isinstance(seen[-1], ChildDied)
    assert "memory runs out" in seen[-1].reason


def test_a_crash_tells_the_last_line_of_its_log(tmp_path):
    assert "fault of the imagination" in events(child(tmp_path, "crash"))[-1].reason


def test_a_program_that_is_not_there(tmp_path):
    (seen,) = events(Child(["/no/such/program"], JobFolder.new(job(tmp_path))))
    assert "could not be started" in seen.reason


def test_hanging_up_lets_the_child_save_and_waits_for_nobody(tmp_path):
    one = child(tmp_path, steps=10_000)
    for batch in watch(one):
        if any(isinstance(event, Stepped) for event in batch):
            one.hang_up()
    assert one.process_id is None
    assert (tmp_path / "project/runs/001-fake/saved-on-hang-up").exists()


def test_a_deaf_child_is_ended_when_its_work_is_discarded(tmp_path):
    one = child(tmp_path, "deaf")
    for batch in watch(one):
        if batch:
            break
    pid = one.process_id
    one.discard()
    assert one.process_id is None
    assert not psutil.pid_exists(pid)


def test_a_child_that_is_ended_before_it_was_started_never_starts(tmp_path):
    one = child(tmp_path)
    one.hang_up()
    assert all(not isinstance(event, Started) for event in events(one))


@pytest.fixture
def runner(qapp):
    new_runner = Runner(fake_command())
    yield new_runner
    new_runner.close()


def run(qtbot, runner, a_job, during=None):
    seen = []
    last = []
    runner.happened.connect(seen.append)
    runner.ended.connect(last.append)
    runner.start(a_job)
    qtbot.waitUntil(lambda: bool(last) or (during is not None and during(seen)), timeout=240_000)
    qtbot.waitUntil(lambda: bool(last), timeout=240_000)
    runner.happened.disconnect(seen.append)
    runner.ended.disconnect(last.append)
    return seen, last[0]


def test_a_runner_tells_of_a_whole_job(qtbot, runner, tmp_path):
    seen, last = run(qtbot, runner, job(tmp_path))
    assert isinstance(last, Finished)
    assert isinstance(seen[0], Started)
    assert runner.job is None
    assert runner.busy == ""
    assert runner.last_job.kind == "train"


def test_pause_resume_and_stop(qtbot, runner, tmp_path):
    said = []

    def during(seen):
        texts = [getattr(event, "text", "") for event in seen]
        for word, after in (("pause", "step"), ("resume", "got pause"), ("stop", "got resume")):
            ready = after in texts or (
                after == "step" and any(isinstance(event, Stepped) for event in seen)
            )
            if ready and word not in said:
                said.append(word)
                runner.say(word)
        return "stop" in said

    _, last = run(qtbot, runner, job(tmp_path, 10_000), during)
    assert last.status == "stopped"
    assert said == ["pause", "resume", "stop"]


@posix
def test_a_kill_is_reported_in_one_sentence_with_the_remedy(qtbot, runner, tmp_path):
    def during(seen):
        if sum(isinstance(event, Stepped) for event in seen) > 3 and runner.process_id:
            os.kill(runner.process_id, signal.SIGKILL)
            return True
        return False

    _, last = run(qtbot, runner, job(tmp_path, 10_000), during)
    assert isinstance(last, Failed)
    assert last.text.startswith("The training was ended from outside")
    assert last.text.endswith("press Resume to go on from the last checkpoint.")


def test_the_error_stream_of_a_run_is_kept_in_its_folder(qtbot, tmp_path):
    runner = Runner(fake_command("crash"))
    run(qtbot, runner, job(tmp_path))
    assert "imagination" in (tmp_path / "project/runs/001-fake/job.log").read_text()


def test_an_error_of_the_user_is_reported_unchanged(qtbot, tmp_path):
    _, last = run(qtbot, Runner(fake_command("mistake")), job(tmp_path))
    assert last.mistake
    assert last.text.startswith("The target is 96 x 80 pixels")


def stepped(qtbot, runner):
    """Wait until the job has learnt and saved something."""

    def saved():
        # Its name comes with the first event.
        if not isinstance(runner.progress, Stepped):
            return False
        return RunFolder.of(runner.job.project, runner.run).checkpoint.exists()

    qtbot.waitUntil(saved, timeout=240_000)


def gone(pid):
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_closing_lets_the_child_save_and_emits_nothing_more(qtbot, runner, tmp_path):
    ended = []
    runner.ended.connect(ended.append)
    runner.start(job(tmp_path, 10_000))
    stepped(qtbot, runner)
    pid = runner.process_id
    runner.close()
    qtbot.waitUntil(lambda: gone(pid), timeout=240_000)
    assert (tmp_path / "project/runs/001-fake/saved-on-hang-up").exists()
    assert ended == []


def test_a_discarded_run_leaves_nothing(qtbot, runner, tmp_path):
    runner.start(job(tmp_path, 10_000))
    stepped(qtbot, runner)
    pid = runner.process_id
    runner.close(Ending.DISCARD)
    assert gone(pid)
    assert list((tmp_path / "project").rglob("*")) == [tmp_path / "project/runs"]


def test_discarding_keeps_what_a_resumed_run_had_learnt_before(qtbot, runner, tmp_path):
    resumed = job(tmp_path, 10_000).model_copy(update={"resume": "001-fake"})
    runner.start(resumed)
    stepped(qtbot, runner)
    runner.close(Ending.DISCARD)
    assert (tmp_path / "project/runs/001-fake/checkpoint.safetensors").exists()


# -- going on without the viewer -------------------------------------------------------------------


@pytest.fixture
def left(qtbot, tmp_path):
    """A job that goes on by itself, and how to find it again."""
    first = Runner(fake_command())
    first.start(job(tmp_path, 10_000))
    stepped(qtbot, first)
    pid = first.process_id
    first.close(Ending.LEAVE)
    second = Runner(fake_command())
    yield pid, second, tmp_path / "project"
    second.close(Ending.DISCARD)
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(pid).kill()


def listen(runner):
    seen, last = [], []
    runner.happened.connect(seen.append)
    runner.ended.connect(last.append)
    return seen, last


def test_a_left_job_goes_on_and_is_found_again(qtbot, left):
    pid, runner, project = left
    seen, last = listen(runner)
    runner.attach(project)
    assert (runner.process_id, runner.job.kind, runner.attached) == (pid, "train", True)
    stepped(qtbot, runner)
    before = runner.progress.step
    qtbot.waitUntil(lambda: runner.progress.step > before, timeout=240_000)
    assert runner.run == "001-fake"
    for command in ("pause", "resume", "stop"):
        runner.say(command)
    qtbot.waitUntil(lambda: bool(last), timeout=240_000)
    notices = [event.text for event in seen if isinstance(event, Notice)]
    assert notices[-2:] == ["got pause", "got resume"]
    assert any(isinstance(event, Stopping) for event in seen)
    assert last[0].status == "stopped"
    assert runner.job is None
    assert gone(pid)
    assert not (project / "jobs").exists()


def test_the_last_sentence_of_a_left_job_is_heard_later(qtbot, left):
    pid, runner, project = left
    (folder,) = JobFolder.left_in(project)
    events = folder.events
    qtbot.waitUntil(
        lambda: events.exists() and events.read_text().count("stepped") > 2, timeout=240_000
    )
    folder.say("stop", {})
    qtbot.waitUntil(lambda: gone(pid), timeout=240_000)
    seen, last = listen(runner)
    runner.attach(project)
    qtbot.waitUntil(lambda: bool(last), timeout=240_000)
    assert last[0].text.startswith("Stopped at step")
    # Of all reports of progress only the latest is news.
    assert sum(isinstance(event, Stepped) for event in seen) == 1
    assert not (project / "jobs").exists()


@posix
def test_a_left_job_that_was_killed_is_reported_with_the_remedy(qtbot, left):
    pid, runner, project = left
    os.kill(pid, signal.SIGKILL)
    qtbot.waitUntil(lambda: gone(pid), timeout=240_000)
    _, last = listen(runner)
    runner.attach(project)
    qtbot.waitUntil(lambda: bool(last), timeout=240_000)
    assert isinstance(last[0], Failed)
    assert "while napari was closed" in last[0].text
    assert last[0].text.endswith("press Resume to go on from the last checkpoint.")


def test_a_left_job_is_discarded_by_its_next_viewer(qtbot, left):
    pid, runner, project = left
    runner.attach(project)
    qtbot.waitUntil(lambda: runner.run == "001-fake", timeout=240_000)
    runner.close(Ending.DISCARD)
    assert gone(pid)
    assert not (project / "runs/001-fake").exists()


def test_several_left_jobs_are_taken_over_one_after_the_other(qtbot, runner, tmp_path):
    for number in range(2):
        folder = JobFolder.new(job(tmp_path))
        Owner(pid=1, started=0.0, host=socket.gethostname()).write(folder.process_file)
        folder.events.write_text(Finished("done", f"Job {number} is done.").to_json() + "\n")
    never_started = JobFolder.new(job(tmp_path))
    _, last = listen(runner)
    runner.attach(tmp_path / "project")
    qtbot.waitUntil(lambda: len(last) == 2, timeout=240_000)
    assert {event.text for event in last} == {"Job 0 is done.", "Job 1 is done."}
    assert not never_started.path.exists()


def test_a_file_of_events_cannot_lead_out_of_the_runs(qtbot, runner, tmp_path):
    """A project may come from elsewhere."""
    precious = tmp_path / "precious"
    precious.mkdir()
    folder = JobFolder.new(job(tmp_path))
    Owner.of().write(folder.process_file)
    folder.events.write_text(Started("train", "../../precious", "cpu", 1).to_json() + "\n")
    folder.commands.symlink_to(precious / "startup")
    seen, _ = listen(runner)
    runner.attach(tmp_path / "project")
    qtbot.waitUntil(lambda: bool(seen), timeout=240_000)
    runner.say("stop")
    assert runner.run == ""
    runner.close()
    assert list(precious.iterdir()) == []


def test_the_catalogue_is_asked_once_and_can_be_left(tmp_path):
    import threading

    count = tmp_path / "count"
    answer = json.dumps({"methods": [], "strategies": [], "networks": [], "exporters": []})
    script = f"open({str(count)!r}, 'a').write('x'); print({answer!r})"
    command = (sys.executable, "-c", script)
    for _ in range(2):
        assert catalogue.fetch(threading.Event(), command).methods == {}
    assert count.read_text() == "x"
    stop = threading.Event()
    stop.set()
    with pytest.raises(JobError, match="could not be read"):  # else it would wait for an hour
        catalogue.fetch(stop, (sys.executable, "-c", "import time; time.sleep(3600)"))


@pytest.mark.parametrize(
    "script", ["import sys; sys.exit('torch is broken')", "print('{}')", "print('no json')"]
)
def test_a_catalogue_that_cannot_be_read_is_one_sentence(script):
    import threading

    with pytest.raises(JobError, match="The methods could not be read"):
        catalogue.fetch(threading.Event(), (sys.executable, "-c", script))


def test_retraining_keeps_a_model_by_losses_only_where_there_are_such_losses(project):
    run = project.folder / "runs" / "001-uda"
    run.mkdir(parents=True)
    (run / "checkpoint.safetensors").touch()
    settings = TrainSettings(keep="supervised")
    write_job(
        TrainJob(
            project=str(project.folder),
            method="uda",
            settings=settings,
            network_settings={"base_channels": 24},
        ),
        run / "job.json",
    )
    again = {method: project.runs.retrain_job(method, 50) for method in ("uda", "finetune")}
    assert {settings.start_from for settings in again.values()} == {"001-uda"}
    assert [again[method].settings.keep for method in ("uda", "finetune")] == [
        "supervised",
        TrainSettings().keep,
    ]
    assert again["finetune"].network_settings == {"base_channels": 24}


LISTED = json.dumps({"methods": [], "strategies": [], "networks": [], "exporters": []})
OTHERS = json.dumps(json.loads(LISTED) | {"device": "cuda"})


@pytest.fixture
def program(tmp_path, monkeypatch):
    """A function that makes the program list something else, as after an update."""
    import threading

    monkeypatch.setenv("NAPARI_EMDA_CACHE", str(tmp_path / "cache"))

    class Program:
        def begins_with(self, line):
            """A new viewer, whose child prints a line."""
            command = (sys.executable, "-c", f"print({line!r})")
            monkeypatch.setattr(catalogue, "COMMAND", command)
            monkeypatch.setattr(catalogue, "_fetched", {})
            monkeypatch.setattr(catalogue, "_asked", set())

        def fetch(self):
            return catalogue.fetch(threading.Event(), catalogue.COMMAND)

        def fetch_again(self):
            return catalogue.fetch_again(threading.Event(), catalogue.COMMAND)

    return Program()


def test_the_methods_of_the_last_start_are_there_at_once_and_checked_afterwards(program):
    program.begins_with(LISTED)
    assert program.fetch().device == "cpu"
    assert program.fetch_again() is None  # asked already
    program.begins_with(OTHERS)
    assert program.fetch().device == "cpu"  # kept from the first viewer
    assert program.fetch_again().device == "cuda"
    assert program.fetch().device == "cuda"
    program.begins_with(OTHERS)
    assert program.fetch().device == "cuda"
    assert program.fetch_again() is None  # nothing has changed


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"installed": "?", "line": "{}"}'])
def test_a_kept_list_that_is_damaged_or_of_another_program_is_not_used(program, tmp_path, damage):
    program.begins_with(LISTED)
    program.fetch()
    (tmp_path / "cache" / "catalogue.json").write_text(damage)
    program.begins_with(OTHERS)
    assert program.fetch().device == "cuda"
    assert program.fetch_again() is None


def test_what_is_installed_decides_whether_a_kept_list_is_used(program, monkeypatch):
    program.begins_with(LISTED)
    program.fetch()
    monkeypatch.setattr(catalogue.catalogue_file, "version", lambda _: "another")
    program.begins_with(OTHERS)
    assert program.fetch().device == "cuda"
