"""The one training loop."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from napari_emda import checkpoint
from napari_emda.checkpoint import Header
from napari_emda.compute import Compute
from napari_emda.data.augment import Augmentation
from napari_emda.data.sampling import Batch, PatchSampler, prefetched
from napari_emda.errors import JobError
from napari_emda.events import Event, Notice, Saved, Stepped
from napari_emda.methods.base import Method
from napari_emda.nn.unet import measure_statistics

CHECKPOINT = "checkpoint.safetensors"
_STATISTICS_BATCHES = 20
_REPORT_SECONDS = 2.0
"""A slow training reports more often than every so many steps, so that a viewer can show how it goes."""
_SAVE_SECONDS = 60.0
"""A slow training is saved more often than every so many steps: a crash costs a minute, not an hour."""


def seed_of(*numbers: int) -> int:
    """One well-mixed seed from several numbers (seed, rank, step ...)."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


class Training:
    """A method on its way: what one step does, and what a checkpoint holds.

    Args:
        method: what is trained.
        sampler: where batches come from.
        header: of the checkpoints; its settings rule.
        folder: where the checkpoint goes.
        compute: device and number format.
    """

    def __init__(self, method: Method, sampler: PatchSampler, header: Header, folder: Path, compute: Compute) -> None:
        self.method = method.to(compute.device).train()
        self.method.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.sampler, self.header, self.folder, self.compute = sampler, header, folder, compute
        self.settings = header.settings
        self.pieces = 1
        self.measured = False
        groups = method.parameter_groups()
        self.optimiser = torch.optim.AdamW(
            [{"params": parameters, "role": role} for role, parameters in groups.items()],
            lr=self.settings.learning_rate,
            weight_decay=self.settings.weight_decay,
            fused=compute.device.type in ("cpu", "cuda"),
        )

    @property
    def path(self) -> Path:
        """Of the checkpoint."""
        return self.folder / CHECKPOINT

    def resume(self) -> int:
        """Continue from the folder's checkpoint if there is one; returns the steps done."""
        if not self.path.exists():
            return 0
        self.header = checkpoint.read_header(self.path)
        checkpoint.load(self.path, self.method, self.optimiser)
        return self.header.step

    # -- batches -------------------------------------------------------------------------------------------------

    def batch(self, step: int) -> Batch:
        """Runs ahead in a thread: draws a batch and, where the processor is the device, augments it there."""
        batch = self.sampler.batch(step)
        if self.compute.device.type == "cpu":
            return self._prepared(batch, step)
        if self.compute.device.type == "cuda":
            return {domain: patches.map(Tensor.pin_memory) for domain, patches in batch.items()}
        return batch

    def _prepared(self, batch: Batch, step: int) -> Batch:
        seed = seed_of(self.settings.seed, self.sampler.rank, step, 1)
        augment = Augmentation(self.settings.augmentation, seed, self.compute.device)
        with torch.no_grad():
            batch = self.method.prepare(batch, augment, step / self.settings.steps)
        return {domain: patches.map(_channels_last) for domain, patches in batch.items()}

    def on_device(self, batch: Batch, step: int) -> Batch:
        """The batch as the method sees it."""
        if self.compute.device.type == "cpu":
            return batch
        device = self.compute.device
        moved: Batch = {d: patches.map(lambda t: t.to(device, non_blocking=True)) for d, patches in batch.items()}
        return self._prepared(moved, step)

    # -- one step ------------------------------------------------------------------------------------------------

    def step(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """One optimiser step; returns the losses, detached, still on the device."""
        torch.manual_seed(seed_of(self.settings.seed, self.sampler.rank, step, 2))
        progress = step / self.settings.steps
        for group in self.optimiser.param_groups:
            group["lr"] = self.settings.learning_rate * self.method.learning_rate(progress, group["role"])
        self.optimiser.zero_grad()
        losses = self._backward(batch, progress)
        torch.nn.utils.clip_grad_norm_(self.method.parameters(), 1.0)
        self.optimiser.step()
        self.method.after_step(step)
        return losses

    def _backward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Losses and gradients, in ``pieces`` parts of the batch so that each fits the memory."""
        sums: dict[str, Tensor] = {}
        size = -(-self.settings.batch // self.pieces)
        starts = range(0, self.settings.batch, size)
        for start in starts:
            piece: Batch = {d: patches.map(partial(_cut, slice(start, start + size))) for d, patches in batch.items()}
            self.method.reported.clear()  # a later stage may not report what an earlier one did
            with self.compute.autocast():
                losses = self.method.losses(piece, progress)
            losses = {name: loss * (1 / len(starts)) for name, loss in losses.items()}
            torch.stack([loss.float() for loss in losses.values()]).sum().backward()
            shown = {name: value * (1 / len(starts)) for name, value in self.method.reported.items()}
            for name, value in {**losses, **shown}.items():
                sums[name] = sums.get(name, 0) + value.detach()
        return sums

    def halve(self, batch: Batch, step: int) -> str:
        """After running out of memory: halve the part of a batch that is computed at once; says so in a sentence."""
        if self.pieces >= self.settings.batch:
            raise JobError(self._what_fits(batch, step))
        self.pieces = min(2 * self.pieces, self.settings.batch)
        size = -(-self.settings.batch // self.pieces)
        return f"The memory of {self.compute} is full: going on with {size} patches at a time, which is slower."

    def _what_fits(self, batch: Batch, step: int) -> str:
        side = self.settings.patch
        message = f"Not even one {side}-pixel patch fits the memory of {self.compute}"
        for smaller in range(side - 32, 31, -32):
            corner = partial(_cut, (..., slice(smaller), slice(smaller)))
            cut: Batch = {domain: patches.map(corner) for domain, patches in batch.items()}
            try:
                self.optimiser.zero_grad()
                self._backward(cut, step / self.settings.steps)
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
                continue
            return f"{message}: choose patch size {smaller} or less, or a smaller base."
        return f"{message}: choose a smaller base, or device cpu."

    # -- keeping -------------------------------------------------------------------------------------------------

    def measures_target(self) -> bool:
        """Whether the target's normalisation statistics are measured anew at every checkpoint."""
        wanted = self.settings.target_statistics
        return "target" in self.sampler.domains and (
            wanted == "on" or (wanted == "auto" and "target" in self.method.domains)
        )

    def adapt_statistics(self) -> None:
        """Measure the predictor's normalisation statistics on the target (AdaBN)."""

        def images() -> Iterator[Tensor]:
            for index in range(_STATISTICS_BATCHES):
                image = self.sampler.anywhere("target", index).image
                yield _channels_last(image.to(self.compute.device))

        self.measured = True
        with self.compute.autocast():
            measure_statistics(self.method.predictor, images(), "target")

    def save(self, step: int) -> Saved:
        """Write the checkpoint of a step."""
        domain = self.header.prediction_domain
        if self.measures_target():
            self.adapt_statistics()
            domain = "target"
        self.header = self.header.model_copy(update={"step": step, "prediction_domain": domain})
        checkpoint.save(self.path, self.header, self.method, self.optimiser)
        return Saved(str(self.path), step)


def _cut(part: Any, tensor: Tensor) -> Tensor:
    return tensor[part]


def _channels_last(tensor: Tensor) -> Tensor:
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor


def out_of_memory(error: RuntimeError) -> bool:
    """Whether torch ran out of memory, on a GPU or on the CPU."""
    return isinstance(error, torch.OutOfMemoryError) or "not enough memory" in str(error)


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
        means = {name: total / self.counts[name] for name, total in zip(self.sums, sums, strict=True)}
        rate = self.steps / max(time.perf_counter() - self.since, 1e-9)
        self.__init__()  # type: ignore[misc]
        return Stepped(step, steps, means, rate)


def fit(training: Training) -> Iterator[Event]:
    """Train to the end of the settings' steps; to stop, stop iterating: what was learnt so far is saved.

    Yields:
        Stepped every ``report_every`` steps or two seconds, Saved every ``save_every`` steps and at least once a
        minute, Notice when something must be known.

    Raises:
        JobError: the loss is no longer a number, or not even one patch fits the memory.
    """
    settings = training.settings
    done = saved = training.resume()
    last_save = time.perf_counter()
    meter = _Meter()
    threads = torch.get_num_threads()
    batches = prefetched(training.batch, done, settings.steps, on_start=lambda: torch.set_num_threads(1))
    try:
        for step, batch in enumerate(batches, done):
            if step == done:
                torch.set_num_threads(threads)  # the prefetching thread keeps to one
            yield from _one_step(training, training.on_device(batch, step), step, meter)
            done = step + 1
            slow = time.perf_counter() - meter.since > _REPORT_SECONDS
            if done % settings.report_every == 0 or done == settings.steps or slow:
                meter.check(done)
                yield meter.report(done, settings.steps)
            late = time.perf_counter() - last_save > _SAVE_SECONDS
            if done % settings.save_every == 0 or done == settings.steps or late:
                meter.check(done)
                saved, last_save = done, time.perf_counter()
                yield training.save(done)
    except GeneratorExit:
        if done > saved:
            with contextlib.suppress(JobError):  # then the last checkpoint is the better one
                meter.check(done)
                training.save(done)
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
