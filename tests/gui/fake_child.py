"""Stands in for ``python -m napari_emda run JOB --json``: the same lines, without torch.

It starts a hundred times, so it imports little and reads the job file as mere JSON.
"""

import json
import os
import shutil
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

from napari_emda.events import (
    Failed,
    Finished,
    Notice,
    Preview,
    Saved,
    Started,
    Stepped,
    Stopping,
    Suggested,
    Validated,
)


class Commands(threading.Thread):
    def __init__(self):
        super().__init__(daemon=True)
        self.attend = self.paused = self.stopped = self.hung_up = self.detached = False
        self.start()

    def run(self):
        for line in sys.stdin:
            self.take(line)
        if self.detached:
            self.follow()
        self.hung_up = self.attend

    def follow(self):
        path, done = Path(sys.argv[2]).with_name("commands.jsonl"), 0
        while True:
            lines = path.read_text().splitlines() if path.exists() else []
            for line in lines[done:]:
                self.take(line)
            done = len(lines)
            time.sleep(0.01)

    def take(self, line):
        command = json.loads(line)
        name = command.pop("command")
        if name == "attend":
            self.attend = True
        elif name in ("pause", "resume"):
            self.paused = name == "pause"
            say(Notice(f"got {name}"))
        elif name == "stop":
            self.stopped = True
            say(Stopping(1.0))
        elif name == "discard":
            os._exit(3)
        elif name == "detach":
            self.detached = True
            to_file()
        elif name == "preview":
            preview(command)


OUTPUT = [sys.stdout]
STARTED = []
LOCK = threading.Lock()


def to_file():
    with LOCK:
        OUTPUT[0] = Path(sys.argv[2]).with_name("events.jsonl").open("a")
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    for event in STARTED:
        say(event)


def say(event):
    with LOCK:
        STARTED[:] = [event] if isinstance(event, Started) else STARTED
        OUTPUT[0].write(event.to_json() + "\n")
        OUTPUT[0].flush()


def preview(command):
    import numpy as np

    y0, y1, x0, x1 = command["box"][2:]
    path = Path(sys.argv[2]).with_name("preview.npy")
    values = np.zeros((1, y1 - y0, x1 - x0), np.uint8)
    values[:, : values.shape[1] // 2] = 200
    np.save(path, values)
    say(Preview(1, command["volume"], tuple(command["box"]), str(path)))


def write_checkpoint(path, step, steps):
    """What the dock reads of a checkpoint; see `tests/project/test_run_state.py` for real ones."""
    state = {"model": {"step": step}, "training": {"settings": {"steps": steps}}}
    header = json.dumps({"__metadata__": {"napari_emda": json.dumps(state)}}).encode()
    partial = path.with_suffix(".partial")
    partial.write_bytes(len(header).to_bytes(8, "little") + header)
    partial.replace(path)


def train(job, commands, behaviour):
    run = Path(job.project) / "runs" / (job.resume or "001-fake")
    run.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(sys.argv[2], run / "job.json")
    say(Started("train", run.name, "cpu", job.settings.steps))
    steps = job.settings.steps
    with (run / "log.jsonl").open("a") as log:
        for step in range(10, steps + 1, 10):
            while commands.paused and not commands.stopped and not commands.hung_up:
                time.sleep(0.01)
            event = Stepped(step, steps, {"segmentation": 1 / step, "reconstruction": 0.5}, 100.0)
            log.write(event.to_json() + "\n")
            say(event)
            if step * 4 % steps == 0:
                scores = {
                    "score": 1.5 - step / steps if 4 * step < 3 * steps else 1.0,
                    "objects": 5.0,
                }
                looked = Validated(step, scores, min(step, steps // 2))
                log.write(looked.to_json() + "\n")
                say(looked)
            time.sleep(0.02)
            write_checkpoint(run / "checkpoint.safetensors", step, steps)
            log.write(Saved(str(run), step).to_json() + "\n")
            log.flush()
            if behaviour == "crash" and step == 50:
                sys.stderr.write("Segmentation fault of the imagination\n")
                sys.stderr.flush()
                os._exit(11)
            if behaviour == "mistake":
                say(
                    Failed(
                        "The target is 96 x 80 pixels, smaller than one patch: choose 64 or less.",
                        True,
                    )
                )
                return
            if commands.stopped:
                say(
                    Finished(
                        "stopped", f"Stopped at step {step}; its model was kept.", {"run": run.name}
                    )
                )
                return
            if commands.hung_up:
                (run / "saved-on-hang-up").touch()
                return
    helped = {"worse": False}.get(behaviour)
    result = {"run": run.name, "step": steps, "selected_step": steps // 2, "helped": helped}
    result |= {"warnings": ["All is lost."]} if behaviour == "fallen" else {}
    say(Finished("done", f"Run {run.name} is trained.", result))


def suggest(job):
    say(Started("suggest", "001-fake", "cpu", 0))
    boxes = ("1:2,0:16,0:16", "3:4,8:24,8:24", "2:3,0:16,16:32")
    boxes = boxes[: job.settings.count]
    regions = tuple(
        {"volume": "target", "box": b, "score": 0.9 - k / 10} for k, b in enumerate(boxes)
    )
    say(Suggested(regions))
    say(Finished("done", f"{len(boxes)} patches are suggested."))


def main():
    behaviour = sys.argv[1]
    text = Path(sys.argv[2]).read_text(encoding="utf-8")
    job = json.loads(text, object_hook=lambda values: SimpleNamespace(**values))
    commands = Commands()
    sys.stdout.write("a library's greeting, not an event\n")
    if behaviour == "deaf":  # neither listens nor ends
        say(Started("train", "", "cpu", 10))
        time.sleep(600)
    if job.kind == "train":
        train(job, commands, behaviour)
    elif job.kind == "suggest":
        suggest(job)
    else:
        say(Started(job.kind, "001-fake", "cpu", 0))
        if job.kind == "export":
            Path(job.to).touch()
        say(Finished("done", f"The {job.kind} is done.", {}))
    os._exit(0)


main()
