"""Where a job computes: in one process, in several ones, or on other computers."""

from __future__ import annotations

from pydantic import Field

from napari_emda.errors import SettingsError
from napari_emda.settings.base import Settings

# More processes than the largest machines have cores: a number with a zero too many.
_MOST_WORKERS = 1024


class Where(Settings):
    """Where a job computes, see docs/cluster.md."""

    workers: int = Field(
        1,
        ge=1,
        le=_MOST_WORKERS,
        title="workers",
        description="Number of processes that compute, each with a copy of the model: on this "
        "computer, or on the nodes of a cluster. 1 computes in the process of the job.",
    )
    scheduler: str = Field(
        "",
        title="scheduler",
        description="Address of a running dask scheduler, whose workers compute: "
        "tcp://HOST:PORT or tls://HOST:PORT.",
    )
    cluster: str = Field(
        "",
        title="cluster file",
        description="A YAML file that says how to ask the queue of a cluster for workers.",
    )

    @property
    def elsewhere(self) -> bool:
        """Whether other processes than that of the job compute."""
        return self.workers > 1 or bool(self.scheduler or self.cluster)

    def check(self) -> None:
        """SettingsError if the settings contradict each other."""
        if self.scheduler and self.cluster:
            raise SettingsError(
                "A scheduler has its own workers: choose either a scheduler or a cluster file."
            )
        if self.scheduler and self.workers > 1:
            raise SettingsError(
                "A scheduler has its own workers: leave out the number of workers, or the "
                "scheduler."
            )
