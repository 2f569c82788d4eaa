"""Jobs as files: what the dock starts, a cluster node runs and a run's folder keeps.

One module for each kind of job.
"""

from napari_emda.project.job_files.base import Job, jobs, read_job, write_job
from napari_emda.project.job_files.export import ExportJob
from napari_emda.project.job_files.objects import ObjectsJob
from napari_emda.project.job_files.predict import PredictJob
from napari_emda.project.job_files.score import ScoreJob
from napari_emda.project.job_files.suggest import SuggestJob
from napari_emda.project.job_files.train import TrainJob

__all__ = [
    "ExportJob",
    "Job",
    "ObjectsJob",
    "PredictJob",
    "ScoreJob",
    "SuggestJob",
    "TrainJob",
    "jobs",
    "read_job",
    "write_job",
]
