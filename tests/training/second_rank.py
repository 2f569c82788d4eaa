"""The second of two ranks, for all trainings of a test file: python -m tests.training.second_rank.

It reads a line for each training, takes part in it, and writes a hash of what it has learnt, or
"refused".
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import torch

from napari_emda.errors import JobError
from napari_emda.jobs.prepare_training import prepare
from napari_emda.jobs.teaching import is_taught, returned_by, taught_volumes
from napari_emda.json_text import parse_json
from napari_emda.project.job_files import TrainJob
from napari_emda.project.project import Project
from napari_emda.project.run_folder import RunFolder
from napari_emda.sampling import sampler
from napari_emda.training.loop import follow
from napari_emda.training.ranks import Ranks, joined
from tests.conftest import MeasuredOnce


def hash_of(module):
    """Of all weights, statistics and other buffers."""
    values = [tensor.numpy().tobytes() for tensor in module.state_dict().values()]
    return hashlib.sha256(b"".join(values)).hexdigest()


def training_of(project, job, rank=0, ranks=1):
    """The training of a rank, without a folder."""
    volumes_of = returned_by(taught_volumes(project, job)) if is_taught(job) else None
    return prepare(project, job, None, volumes_of, rank, ranks)[0]


def main():
    torch.set_num_threads(1)
    sampler.Appearance = MeasuredOnce()
    output, sys.stdout = sys.stdout, sys.stderr
    with joined(Path(sys.argv[1]), 1, 2, torch.device("cpu")):
        for line in sys.stdin:
            asked = parse_json(line)
            job = TrainJob.model_validate_json(asked["job"])
            with Project.open(job.project) as project:
                training = training_of(project, job, 1, 2)
            training.folder = RunFolder(Path(asked["folder"]))
            training.ranks = Ranks(training.compute.device)
            if asked["full"]:
                losses = training.method.losses
                training.method.losses = limited(losses, asked["full"])
            try:
                follow(training, training.load())
                learnt = hash_of(training.method)
            except JobError:
                learnt = "refused"
            output.write(learnt + "\n")
            output.flush()


def limited(losses, patches):
    """Losses that run out of memory on more patches."""

    def compute(batch, progress):
        if len(batch["source"].image) > patches:
            raise torch.OutOfMemoryError
        return losses(batch, progress)

    return compute


if __name__ == "__main__":
    main()
