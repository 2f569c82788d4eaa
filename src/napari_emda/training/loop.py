"""The one training loop."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Iterator

import torch
from torch import Tensor

from napari_emda.data.prefetch import prefetched
from napari_emda.errors import JobError
from napari_emda.events import Event, Notice, Stepped
from napari_emda.sampling.sampler import Batch
from napari_emda.training.trainer import Training, out_of_memory

_REPORT_SECONDS = 2.0
"""A slow training reports more often than every so many steps, so that a viewer can show how it goes."""
_SAVE_SECONDS = 60.0
"""A slow training is saved more often than every so many steps: a crash costs a minute, not an hour."""


class _Meter:
    """Means of losses on the device; looking at them is the one moment that waits for it."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: Counter[str] = Counter()  # a loss may be there in some steps alone
        self.steps, self.since = 0, time.perf_counter()

    def add(self, losses: dict[str, Tensor]) -> None:
        for name, loss in losses.items():
            self.sums[name] = self.sums[name] + loss if name in self.sums else loss
        self.counts.update(losses.keys())
        self.steps += 1

    def check(self, step: int) -> None:
        """JobError when a loss since the last report is no number."""
        if self.sums and not torch.stack(list(self.sums.values())).isfinite().all():
            raise JobError(
                f"The loss is no longer a number at step {step}: start again with a smaller learning rate (a tenth)."
            )

    def report(self, step: int, steps: int) -> Stepped:
        sums = torch.stack(list(self.sums.values())).tolist()
        means = {
            name: total / self.counts[name] for name, total in zip(self.sums, sums, strict=True)
        }
        rate = self.steps / max(time.perf_counter() - self.since, 1e-9)
        self.__init__()  # type: ignore[misc]
        return Stepped(step, steps, means, rate)


def fit(training: Training) -> Iterator[Event]:
    """Train to the end of the settings' steps; to stop, stop iterating: what was learnt so far is saved.

    Yields:
        Stepped every ``report_every`` steps or two seconds, Validated some ``validations`` times, Saved every
        ``save_every`` steps and at least once a minute, Notice when something must be known.

    Raises:
        JobError: the loss is no longer a number, or not even one patch fits the memory.
    """
    settings = training.settings
    done = saved = training.resume()
    last_save = time.perf_counter()
    meter = _Meter()
    threads = torch.get_num_threads()
    end = done if training.flat else settings.steps
    drawing = training.drawing_threads
    batches = prefetched(
        training.batch,
        done,
        end,
        ahead=drawing + 2,
        threads=drawing,
        on_start=lambda: torch.set_num_threads(1),
    )
    try:
        for step, batch in enumerate(batches, done):
            if step == done:
                torch.set_num_threads(threads)  # the prefetching thread keeps to one
            yield from _one_step(training, training.on_device(batch, step), step, meter)
            done = step + 1
            if training.validation_due(done):
                meter.check(done)
                yield from training.validate(done)
            over = done == settings.steps or training.flat
            if (
                done % settings.report_every == 0
                or over
                or time.perf_counter() - meter.since > _REPORT_SECONDS
            ):
                meter.check(done)
                yield meter.report(done, settings.steps)
                yield from training.look_out(done)
            if (
                done % settings.save_every == 0
                or over
                or time.perf_counter() - last_save > _SAVE_SECONDS
            ):
                meter.check(done)
                saved, last_save = done, time.perf_counter()
                yield training.save(done)
            if over:
                break
        training.select()
    except GeneratorExit:
        if done > saved:
            with contextlib.suppress(JobError):  # then the last checkpoint is the better one
                meter.check(done)
                training.save(done)
        training.select()
        raise
    finally:
        batches.close()


def _one_step(training: Training, batch: Batch, step: int, meter: _Meter) -> Iterator[Event]:
    while True:
        try:
            meter.add(training.step(batch, step))
            return
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
        torch.cuda.empty_cache()
        yield Notice(training.halve(batch, step))
