"""A method on its way: what one step does, and what is kept of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from napari_emda.errors import JobError
from napari_emda.events import Event, Notice, Saved, Validated
from napari_emda.inference import checkpoint
from napari_emda.inference.device import Compute, io_threads, to_device
from napari_emda.inference.model_header import ModelHeader
from napari_emda.inference.predictor import Predictor
from napari_emda.methods.base import Method, Postprocessing
from napari_emda.nn.network import Network
from napari_emda.nn.normalisation import measure_statistics, mix_statistics
from napari_emda.project.run_folder import RunFolder
from napari_emda.sampling.augmentation import Augmentation
from napari_emda.sampling.device_volumes import DeviceVolumes, Drawn
from napari_emda.sampling.sampler import Batch, Patches, PatchSampler
from napari_emda.training import model_selection
from napari_emda.training.model_selection import LossAccumulator
from napari_emda.training.prior_matching import CalibrationSample, calibrate
from napari_emda.training.recorded_gradients import RecordedGradients
from napari_emda.training.state import TrainingState
from napari_emda.training.validation import Validator, validation_steps

_STATISTICS_BATCHES = 20
_FEWER_BATCHES = 5
"""Of the target, from which statistics are measured for a validation."""
_TILES, _FEWER_TILES = 64, 24
"""Of the target, twice as wide as a patch, by which predictions are calibrated at the end and before."""
_AGREEMENT_TILES = 16
"""As wide as a patch, from which it is told whether neighbouring sections agree, when nothing else is to be known."""


def seed_of(*numbers: int) -> int:
    """One well-mixed seed from several numbers (seed, rank, step ...)."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


class Training:
    """A method on its way: what one step does, and what a checkpoint holds.

    Args:
        method: what is trained.
        sampler: where batches come from.
        header: of the model, as it is told in checkpoints.
        state: of the training; its settings rule.
        folder: where the checkpoint goes.
        compute: device and number format.
        validator: looks at the target now and then; None where there is none, or nobody wants to.
    """

    def __init__(
        self,
        method: Method,
        sampler: PatchSampler,
        header: ModelHeader,
        state: TrainingState,
        folder: RunFolder,
        compute: Compute,
        validator: Validator | None = None,
    ) -> None:
        self.method = method.to(compute.device).train()
        self.method.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.sampler = sampler
        self.header = header
        self.state = state
        self.settings = state.settings
        self.folder = folder
        self.compute = compute
        self.validator = validator
        looks = validator is not None or method.unlabelled_losses
        self.validated_at = validation_steps(self.settings) if looks else ()
        self.tally = LossAccumulator(method.unlabelled_losses)
        self.micro_batches = 1
        self.recorded: RecordedGradients | None = None
        self.z_smoothing = header.z_smoothing
        self.measured = self.alarmed = False
        self.device_volumes = DeviceVolumes.that_fit(sampler, compute.device)
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
        return self.folder.checkpoint

    def resume(self) -> int:
        """Continue from the folder's checkpoint if there is one; returns the steps done."""
        if not self.path.exists():
            return 0
        self.header = checkpoint.read_header(self.path)
        self.state = TrainingState.read(self.path)
        self.z_smoothing = self.header.z_smoothing
        self.tally = LossAccumulator(self.method.unlabelled_losses, self.state.pending)
        checkpoint.load(self.path, self.method, self.optimiser)
        self.folder.selected.unlink(missing_ok=True)  # until the end the last model is the run's
        return self.header.step

    # -- batches -------------------------------------------------------------------------------------------------

    def batch(self, step: int) -> Batch | Drawn:
        """Runs ahead in threads: draws a batch and, where the processor is the device, augments it there.

        Of volumes that lie on a GPU it draws the places alone.
        """
        domains = [domain for domain in self.sampler.domains if self.method.draws(domain)]
        if self.device_volumes is not None:
            return self.device_volumes.draw(step, domains)
        batch = self.sampler.batch(step, domains)
        if self.compute.device.type == "cpu":
            return self._prepared(batch, step)
        return {
            domain: _on_its_way(patches, self.compute.device) for domain, patches in batch.items()
        }

    @property
    def drawing_threads(self) -> int:
        """That draw batches: several where a GPU would wait for one that reads."""
        return 1 if self.device_volumes is not None else io_threads(self.compute.device)

    def _prepared(self, batch: Batch, step: int) -> Batch:
        seed = seed_of(self.settings.seed, self.sampler.rank, step, 1)
        augment = Augmentation(self.settings.augmentation, seed, self.compute.device)
        with torch.no_grad():
            batch = self.method.prepare(batch, augment, step / self.settings.steps)
        return {domain: patches.map(_channels_last) for domain, patches in batch.items()}

    def on_device(self, drawn: Batch | Drawn, step: int) -> Batch:
        """The batch as the method sees it, from what `batch` has drawn."""
        device = self.compute.device
        if self.device_volumes is not None:
            return self._prepared(self.device_volumes.batch(cast(Drawn, drawn)), step)
        batch = cast(Batch, drawn)
        if device.type == "cpu":
            return batch
        moved = {
            domain: patches.map(partial(to_device, device=device))
            for domain, patches in batch.items()
        }
        return self._prepared(
            {d: replace(p, labels=p.labels.long()) for d, p in moved.items()}, step
        )

    # -- one step ------------------------------------------------------------------------------------------------

    def step(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """One optimiser step; returns the losses, detached, still on the device."""
        torch.manual_seed(seed_of(self.settings.seed, self.sampler.rank, step, 2))
        progress = step / self.settings.steps
        for group in self.optimiser.param_groups:
            group["lr"] = self.settings.learning_rate * self.method.learning_rate(
                progress, group["role"]
            )
        if self.recorded is None or self.micro_batches > 1:
            self.optimiser.zero_grad()
            losses = self._backward(batch, progress)
        else:
            losses = self.recorded(batch)
        torch.nn.utils.clip_grad_norm_(self.method.parameters(), 1.0)
        self.optimiser.step()
        self.method.after_step(step)
        self.tally.add(
            {name: loss for name, loss in losses.items() if name not in self.method.reported}
        )
        return losses

    def _backward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Losses and gradients, in ``micro_batches`` parts of the batch so that each fits the memory."""
        sums: dict[str, Tensor] = {}
        for index in range(self.micro_batches):
            micro_batch: Batch = {
                d: patches.map(partial(_part, index, self.micro_batches))
                for d, patches in batch.items()
            }
            share = (
                len(_part(index, self.micro_batches, range(self.settings.batch)))
                / self.settings.batch
            )
            self.method.reported.clear()  # a later stage may not report what an earlier one did
            with self.compute.autocast():
                losses = self.method.losses(micro_batch, progress)
            losses = {name: loss * share for name, loss in losses.items()}
            torch.stack([loss.float() for loss in losses.values()]).sum().backward()
            shown = {name: value * share for name, value in self.method.reported.items()}
            for name, value in {**losses, **shown}.items():
                sums[name] = sums.get(name, 0) + value.detach()
        return sums

    def halve(self, batch: Batch, step: int) -> str:
        """After running out of memory: halve the part of a batch that is computed at once; says so in a sentence."""
        if self.micro_batches >= self.settings.batch:
            raise JobError(self._what_fits(batch, step))
        self.micro_batches = min(2 * self.micro_batches, self.settings.batch)
        size = -(-self.settings.batch // self.micro_batches)
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
            return f"{message}: choose patch size {smaller} or less, or a smaller network."
        return f"{message}: choose a smaller network, or device cpu."

    # -- keeping -------------------------------------------------------------------------------------------------

    def measures_target(self) -> bool:
        """Whether the target's normalisation statistics are measured anew at every checkpoint."""
        wanted = self.settings.target_statistics
        return "target" in self.sampler.domains and (
            wanted == "on" or (wanted == "auto" and self.method.learns_target(self.sampler.domains))
        )

    def adapt_statistics(self, *, final: bool = False) -> None:
        """Measure on the target what the predictor needs: normalisation statistics (AdaBN) and class shares."""
        self.measured = True
        self._measure(self.method, final=final)

    def _measure(
        self, method: Method, batches: int = _STATISTICS_BATCHES, *, final: bool = False
    ) -> None:
        postprocessing = method.postprocessing
        drawing = self.device_volumes or self.sampler
        measure_target(method.predictor, drawing, self.compute, batches)
        mix_statistics(method.predictor, postprocessing.target_statistics_weight)
        if postprocessing.measured:
            predictor = Predictor(method.predictor, self.header, self.compute)
            prior = self.sampler.prior("source", method.network.classes)
            sample = self._calibration_sample(postprocessing, final=final)
            self.z_smoothing = calibrate(
                predictor, self.sampler.regions("target"), prior, postprocessing, sample
            )

    def _calibration_sample(
        self, postprocessing: Postprocessing, *, final: bool
    ) -> CalibrationSample:
        """How closely to look at the target: shares are wanted to the percent, agreement only roughly."""
        if not postprocessing.prior_strength:
            return CalibrationSample(_AGREEMENT_TILES, self.settings.patch, flips=False)
        return CalibrationSample(
            _TILES if final else _FEWER_TILES,
            2 * self.settings.patch,
            postprocessing.flips and final,
        )

    def _header(self, step: int) -> ModelHeader:
        domain = "target" if self.measures_target() else self.header.prediction_domain
        update = {"step": step, "prediction_domain": domain, "z_smoothing": self.z_smoothing}
        return self.header.model_copy(update=update)

    def _state(self, step: int) -> TrainingState:
        scores = self.state.validations.get(step, {})
        return self.state.model_copy(update={"scores": scores, "pending": self.tally.sums()})

    def save(self, step: int) -> Saved:
        """Write the checkpoint of a step."""
        if self.measures_target():
            # A close calibration takes as long as dozens of steps, and is for the model that will
            # be used: `select` makes it where that is not this one.
            is_selected = not model_selection.chosen(
                self.state.validations, self.state.settings, self.state.losses
            )
            self.adapt_statistics(final=step == self.settings.steps and is_selected)
        self.header = self._header(step)
        self.state = self._state(step)
        checkpoint.save(
            self.path, self.header, self.method, training=self.state, optimiser=self.optimiser
        )
        model_selection.forget_others(self.folder, self.state, step)
        return Saved(str(self.path), step)

    # -- knowing when to stop ------------------------------------------------------------------------------------

    def look_out(self, step: int) -> Iterator[Notice]:
        """Tell, once and after a warm-up, what has gone wrong by the method's own account."""
        if (
            not self.alarmed
            and step >= model_selection.WARM_UP * self.settings.steps
            and (alarm := self.method.alarm())
        ):
            self.alarmed = True
            yield Notice(alarm)

    def validation_due(self, step: int) -> bool:
        """Whether the model of this step is to be looked at."""
        return step in self.validated_at

    def validate(self, step: int) -> Iterator[Event]:
        """If that is due, score the model without labels, note its losses, and keep it if it is good."""
        if not self.validation_due(step):
            return
        before = self.state.validations
        self.state = self.tally.noted(self.state, step)
        with _unchanged_statistics(self.method.predictor):
            if self.measures_target():
                self._measure(self.method, _FEWER_BATCHES)
            self.header = self._header(step)
            if self.validator is not None:
                scores = self.validator.scores(self.method.predictor, self.header, self.compute)
                self.state = self.state.model_copy(update={"validations": {**before, step: scores}})
            self.state = self._state(step)
            model_selection.keep_candidate(self.folder, self.header, self.state, self.method)
        now = self.state.validations
        steps = self.settings.steps
        if step in now:
            yield Validated(step, now[step], next(iter(model_selection.ranked(now)), 0))
        if model_selection.collapsed(now, steps) and not model_selection.collapsed(before, steps):
            yield Notice(model_selection.warning(now[step]))

    @property
    def flat(self) -> bool:
        """Whether the training has brought nothing better for as long as the user is willing to wait."""
        return model_selection.flat(self.state.validations, self.settings)

    def select(self) -> None:
        """Write the model that the run is to be used with, unless it is that of the last step."""
        made = model_selection.selected(self.folder, self.state)
        if made is None:
            self.folder.selected.unlink(missing_ok=True)
            return
        header, state, method = made
        method.to(self.compute.device)
        if self.measures_target():
            self._measure(method, final=True)
            header = header.model_copy(update={"z_smoothing": self.z_smoothing})
        if self.validator is not None and len(header.selected) > 1:
            scores = self.validator.scores(method.predictor, header, self.compute)
            state = state.model_copy(update={"scores": scores})
        checkpoint.save(self.folder.selected, header, method, training=state)


def measure_target(
    network: Network,
    sampler: PatchSampler | DeviceVolumes,
    compute: Compute,
    batches: int = _STATISTICS_BATCHES,
) -> None:
    """Set a network's normalisation statistics of the target to those of batches from anywhere in it (AdaBN)."""
    drawn = (sampler.anywhere("target", index).image for index in range(batches))
    images = (_channels_last(to_device(image, compute.device)) for image in drawn)
    with compute.autocast():
        measure_statistics(network, images, "target")


@contextlib.contextmanager
def _unchanged_statistics(network: torch.nn.Module) -> Iterator[None]:
    """Within it, normalisation statistics may be measured; afterwards they are what they were."""
    before = [(buffer, buffer.clone()) for buffer in network.buffers()]
    try:
        yield
    finally:
        for buffer, value in before:
            buffer.copy_(value)


def _on_its_way(patches: Patches, device: torch.device) -> Patches:
    """As it is sent to a device: class ids as bytes, in memory from which CUDA copies while others compute."""
    small = replace(patches, labels=patches.labels.to(torch.uint8))
    return small.map(Tensor.pin_memory) if device.type == "cuda" else small


def _part(index: int, count: int, patches: Any) -> Any:
    """The ``index``-th of so many parts of a sequence, as equal as can be, the larger ones first."""
    return patches[-(-len(patches) * index // count) : -(-len(patches) * (index + 1) // count)]


def _cut(part: Any, tensor: Tensor) -> Tensor:
    return tensor[part]


def _channels_last(tensor: Tensor) -> Tensor:
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor


def out_of_memory(error: RuntimeError) -> bool:
    """Whether torch ran out of memory, on a GPU or on the CPU."""
    return isinstance(error, torch.OutOfMemoryError) or "not enough memory" in str(error)
