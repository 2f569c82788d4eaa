"""The one training loop."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from napari_emda.data.prefetch import prefetched
from napari_emda.errors import JobError, is_out_of_memory
from napari_emda.events import Event, Notice, Saved, Stepped
from napari_emda.sampling.device_volumes import Drawn
from napari_emda.sampling.patches import Batch
from napari_emda.training.between_steps import look_out, save, select, validate
from napari_emda.training.memory import halve
from napari_emda.training.phases import Phases
from napari_emda.training.ranks import OutOfMemoryTogether, RankLost
from napari_emda.training.stopping import save_soon, select_soon, soon
from napari_emda.training.trainer import Training

# A slow training reports after this time even before `report_every` steps, so that the viewer shows
# progress.
_REPORT_SECONDS = 2.0

# A slow training is saved after this time even before `save_every` steps: a crash costs a minute,
# not an hour.
_SAVE_SECONDS = 60.0


class _Meter:
    """Mean losses since the last report, summed on the device.

    Only `check` and `report` read them, and wait for the device.
    """

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        # Counted one by one, because some losses exist in some steps only.
        self.counts: Counter[str] = Counter()
        self.steps = 0
        self.since = time.perf_counter()

    def add(self, losses: dict[str, Tensor]) -> None:
        for name, loss in losses.items():
            self.sums[name] = self.sums[name] + loss if name in self.sums else loss
        self.counts.update(losses.keys())
        self.steps += 1

    def check(self, step: int) -> None:
        """Raise JobError if a loss since the last report was NaN or infinite."""
        # A sum is not finite if one of its terms is not.
        if self.sums and not torch.stack(list(self.sums.values())).isfinite().all():
            raise JobError(
                f"The loss is NaN or infinite at step {step}: start again with a tenth of the "
                "learning rate."
            )

    def report(self, step: int, steps: int) -> Stepped:
        sums = torch.stack(list(self.sums.values())).tolist()
        means = {
            name: total / self.counts[name] for name, total in zip(self.sums, sums, strict=True)
        }
        rate = self.steps / max(time.perf_counter() - self.since, 1e-9)
        self.__init__()  # type: ignore[misc]
        return Stepped(step, steps, means, rate)


@dataclass
class _Progress:
    """How far a training is.

    Attributes:
        done: number of steps that are done.
        saved: number of steps that are in the checkpoint.
        saved_at: when that was written, by the clock of `time.perf_counter`.
    """

    done: int
    saved: int
    saved_at: float = field(default_factory=time.perf_counter)


def fit(training: Training, phases: Phases | None = None) -> Generator[Event]:
    """Train for the steps of the settings, from the folder's checkpoint if there is one.

    To stop, close the generator: the last step is saved, in the time of a few steps. While
    ``training.stop_asked`` says so, there is an event after each step.

    Args:
        training: what to train.
        phases: of the training, if others say with them what they do in between.

    Yields:
        Phase when another kind of work begins, Stepped every ``report_every`` steps or two seconds,
        Validated after each validation, Saved every ``save_every`` steps and at least once a
        minute, Advanced while it validates and measures, Notice when something goes wrong.

    Raises:
        JobError: the loss is NaN or infinite, or not even one patch fits into the memory.
        RankLost: another device of the training has failed; what is learnt is saved.
    """
    begin = training.resume()
    progress = _Progress(begin, begin)
    meter = _Meter()
    phases = phases or Phases(training)
    batches = _drawn(training, begin)
    try:
        yield phases.began(begin)
        if training.cut_off(begin):
            yield phases.scoring(begin)
            yield from _after_step(training, phases, meter, progress)
        for step, batch in enumerate(batches, begin):
            if training.validation_due(step + 1):
                # Before the step: a stop between it and its validation would lose the validation.
                yield phases.scoring(step + 1)
            yield from _one_step(training, training.on_device(batch, step), step, meter)
            progress.done = step + 1
            yield from _after_step(training, phases, meter, progress)
            if _is_over(training, progress.done):
                break
        yield from select(training, phases)
    except (GeneratorExit, RankLost) as end:
        ranks = training.ranks
        if isinstance(end, RankLost) and ranks is not None and not ranks.keeps_steps_apart:
            raise
        enough = soon()
        if progress.done > progress.saved:
            # If the loss is not finite, the checkpoint on disk is the better one.
            with contextlib.suppress(JobError):
                meter.check(progress.done)
                save_soon(training, progress.done, enough)
        select_soon(training, enough)
        raise
    finally:
        batches.close()


def follow(training: Training, begin: int) -> None:
    """Take part in the steps of a training that the first rank leads, as another one.

    The first one says when each step begins, and need not say that there are no more: it ends the
    processes of the others.

    Args:
        training: of this rank, with its checkpoint loaded.
        begin: number of steps that are done.
    """
    with contextlib.closing(_drawn(training, begin)) as batches:
        for step, batch in enumerate(batches, begin):
            for _ in _one_step(training, training.on_device(batch, step), step, _Meter()):
                pass


def _is_over(training: Training, done: int) -> bool:
    """Whether a training ends after this number of steps."""
    return done == training.settings.steps or training.flat


def _drawn(training: Training, begin: int) -> Generator[Batch | Drawn]:
    """The batches of the steps from ``begin`` on, drawn ahead in other threads."""
    threads = torch.get_num_threads()
    drawing = training.drawing_threads
    # A drawing thread uses one core: the others are for the steps. Setting that there may change
    # the number of this thread, too, so it is set again with the first batch.
    batches = prefetched(
        training.batch,
        begin,
        begin if training.flat else training.settings.steps,
        ahead=drawing + 2,
        threads=drawing,
        on_start=lambda: torch.set_num_threads(1),
    )
    with contextlib.closing(batches):
        for number, batch in enumerate(batches):
            if number == 0:
                torch.set_num_threads(threads)
            yield batch


def _after_step(
    training: Training, phases: Phases, meter: _Meter, progress: _Progress
) -> Iterator[Event]:
    """Validate, report and save, as far as each is due."""
    settings = training.settings
    done = progress.done
    if training.validation_due(done):
        meter.check(done)
        yield from validate(training, done)
        yield phases.began(done)
    over = _is_over(training, done)
    if meter.steps and (
        over
        or done % settings.report_every == 0
        or training.stop_asked()
        or time.perf_counter() - meter.since > _REPORT_SECONDS
    ):
        meter.check(done)
        yield meter.report(done, settings.steps)
        yield from look_out(training, done)
    if (
        over
        or done % settings.save_every == 0
        or time.perf_counter() - progress.saved_at > _SAVE_SECONDS
    ):
        meter.check(done)
        yield phases.saving(done)
        for event in save(training, done):
            # Not before: whoever stops the training while it measures has it saved in `fit`.
            if isinstance(event, Saved):
                progress.saved = done
                progress.saved_at = time.perf_counter()
            yield event
        if not over:
            yield phases.began(done)


def _one_step(training: Training, batch: Batch, step: int, meter: _Meter) -> Iterator[Event]:
    """Do one step, with smaller micro-batches each time it runs out of memory."""
    while True:
        try:
            meter.add(training.step(batch, step))
            return
        except OutOfMemoryTogether:
            pass
        except (RuntimeError, MemoryError) as error:
            # One of several devices cannot repeat a step alone.
            if training.ranks is not None or not is_out_of_memory(error):
                raise
        # Outside of the handler: its traceback keeps the tensors of the failed step alive.
        torch.cuda.empty_cache()
        yield Notice(halve(training, batch, step))
