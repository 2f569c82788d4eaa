"""One training: batches, optimiser steps, and checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

from napari_emda.events import Advanced
from napari_emda.inference import checkpoint
from napari_emda.inference.device import Compute, io_threads, to_device
from napari_emda.inference.model_header import ModelHeader
from napari_emda.inference.predictor import Predictor
from napari_emda.methods.base import Method, Postprocessing
from napari_emda.nn.layers import lay_channels_last
from napari_emda.nn.normalisation import mix_statistics
from napari_emda.project.run_folder import RunFolder
from napari_emda.sampling.augmentation import Augmentation
from napari_emda.sampling.device_volumes import DeviceVolumes, Drawn
from napari_emda.sampling.patches import Batch
from napari_emda.sampling.sampler import PatchSampler
from napari_emda.training import model_selection
from napari_emda.training.micro_batches import (
    BufferChanges,
    channels_last,
    for_transfer,
    part_of,
)
from napari_emda.training.model_selection import LossAccumulator
from napari_emda.training.optimiser import AdamW
from napari_emda.training.prior_matching import CalibrationSample, calibrate
from napari_emda.training.ranks import Ranks
from napari_emda.training.recorded_gradients import RecordedGradients
from napari_emda.training.state import TrainingState
from napari_emda.training.target_statistics import (
    STATISTICS_BATCHES,
    measure_target,
)
from napari_emda.training.validation import Validator, validation_steps

# Tiles of the target, twice as wide as a patch, on which class shares are measured: of the selected
# model, and of all others, which are calibrated many times in a training.
_TILES = 64
_FEWER_TILES = 24

# Tiles as wide as a patch on which only the agreement of neighbouring sections is measured.
_AGREEMENT_TILES = 16


def seed_of(*numbers: int) -> int:
    """One seed from several numbers (seed, rank, step ...)."""
    # SeedSequence mixes: seeds of neighbouring steps are unrelated. torch takes 63 bits.
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


class Training:
    """A method in training: its batches, steps and checkpoints.

    What is done with its models, `between_steps` says.

    Args:
        method: that is trained.
        sampler: draws the batches.
        header: of the model, for its checkpoints.
        state: of the training, with its settings.
        folder: of the run.
        compute: device and number format.
        validator: scores the model on the target; None for no validations.
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
        lay_channels_last(self.method)
        self.sampler = sampler
        self.header = header
        self.state = state
        self.settings = state.settings
        self.folder = folder
        self.compute = compute
        self.validator = validator
        # Without a validator, losses are noted at the same steps (`keep` may choose by them).
        validates = validator is not None or method.unlabelled_losses
        self.validated_at = validation_steps(self.settings) if validates else ()
        self.tally = LossAccumulator(method.unlabelled_losses)
        # The devices that train together; None for one alone. Each has a part of the batch.
        self.ranks: Ranks | None = None
        self.patches = sampler.sizes["target"]
        self.micro_batches = 1
        # Recorded where launching takes longer than computing: on a GPU.
        self.recorded = (
            RecordedGradients(self._backward, self.method)
            if compute.device.type == "cuda"
            else None
        )
        self.z_smoothing = header.z_smoothing
        self.measured = False
        # Whether somebody waits for the end: then only what is needed is done.
        self.hurry: Callable[[], bool] = lambda: False
        # Whether somebody wants it to stop: then an event is due after each step.
        self.stop_asked: Callable[[], bool] = lambda: False
        self.alarmed = False
        self.device_volumes = DeviceVolumes.that_fit(sampler, compute.device)
        groups = method.parameter_groups()
        self.optimiser = AdamW(
            [{"params": parameters, "role": role} for role, parameters in groups.items()],
            lr=self.settings.learning_rate,
            weight_decay=self.settings.weight_decay,
            # One kernel for all parameters; torch has none for other devices.
            fused=compute.device.type in ("cpu", "cuda"),
        )

    @property
    def path(self) -> Path:
        """Path of the checkpoint."""
        return self.folder.checkpoint

    def resume(self) -> int:
        """Go on from the folder's checkpoint if there is one; returns the number of steps done."""
        step = self.load()
        if step:
            # Until the training ends again, the last model is the selected one.
            self.folder.selected.unlink(missing_ok=True)
        return step

    def load(self) -> int:
        """Load the folder's checkpoint if there is one; returns the number of steps done."""
        if not self.path.exists():
            return 0
        self.header = checkpoint.read_header(self.path)
        self.state = TrainingState.read(self.path)
        self.z_smoothing = self.header.z_smoothing
        self.tally = LossAccumulator(self.method.unlabelled_losses, self.state.pending)
        checkpoint.load(self.path, self.method, self.optimiser)
        return self.header.step

    # -- batches -----------------------------------------------------------------------------------

    def batch(self, step: int) -> Batch | Drawn:
        """Draw the batch of a step; called in the drawing threads, ahead of the steps.

        On the CPU it is also augmented there. Of volumes in a GPU's memory, only places are drawn.
        """
        domains = [domain for domain in self.sampler.domains if self.method.draws(domain)]
        if self.device_volumes is not None:
            return self.device_volumes.draw(step, domains)
        batch = self.sampler.batch(step, domains)
        if self.compute.device.type == "cpu":
            return self._prepared(batch, step)
        return {
            domain: for_transfer(patches, self.compute.device) for domain, patches in batch.items()
        }

    @property
    def drawing_threads(self) -> int:
        """Number of threads that draw batches."""
        # Places are drawn fast enough by one thread; patches that are read from disk are not.
        return 1 if self.device_volumes is not None else io_threads(self.compute.device)

    def _prepared(self, batch: Batch, step: int) -> Batch:
        seed = seed_of(self.settings.seed, self.sampler.rank, step, 1)
        augment = Augmentation(
            self.settings.augmentation, seed, self.compute.device, self.method.network.stack
        )
        with torch.no_grad():
            batch = {domain: augment.neighbours(patches) for domain, patches in batch.items()}
            batch = self.method.prepare(batch, augment, step / self.settings.steps)
        return {domain: patches.map(channels_last) for domain, patches in batch.items()}

    def on_device(self, drawn: Batch | Drawn, step: int) -> Batch:
        """The batch as the method takes it, from what `batch` has drawn."""
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
        # Class ids are sent as bytes (see `for_transfer`), and indexed as int64.
        batch = {
            domain: replace(patches, labels=patches.labels.long())
            for domain, patches in moved.items()
        }
        return self._prepared(batch, step)

    # -- one step ----------------------------------------------------------------------------------

    def step(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Do one optimiser step; returns the losses, detached and on the device."""
        # A resumed training draws the same random numbers as one that was never stopped.
        torch.manual_seed(seed_of(self.settings.seed, self.sampler.rank, step, 2))
        progress = step / self.settings.steps
        for group in self.optimiser.param_groups:
            group["lr"] = self.settings.learning_rate * self.method.learning_rate(
                progress, group["role"]
            )
        compute = partial(self.gradients, batch, progress)
        if self.ranks is None:
            losses = compute()
        else:
            share = self.patches / self.settings.batch
            losses = self.ranks.mean_gradients(self.method, compute, share)
        # One bad batch must not spoil the optimiser's moments for many steps.
        torch.nn.utils.clip_grad_norm_(self.method.parameters(), 1.0)
        self.optimiser.step()
        self.method.after_step(step)
        self.tally.add(
            {name: loss for name, loss in losses.items() if name not in self.method.reported}
        )
        return losses

    def gradients(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Set the gradients of this device's patches; returns their losses."""
        if self.recorded is not None:
            return self.recorded(batch, progress, self.method.recorded_stage(progress))
        self.optimiser.zero_grad()
        return self._backward(batch, progress)

    def _backward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Compute losses and gradients in ``micro_batches`` parts of the batch.

        Weighted by their sizes, the parts add up to the gradient of the whole batch.
        """
        sums: dict[str, Tensor] = {}
        changes = BufferChanges(self.method) if self.micro_batches > 1 else None
        stack = self.method.network.stack
        for index in range(self.micro_batches):
            micro_batch: Batch = {
                d: patches.map(partial(part_of, index, self.micro_batches, stack=stack))
                for d, patches in batch.items()
            }
            share = len(part_of(index, self.micro_batches, range(self.patches))) / self.patches
            # Methods in stages report different values in each stage.
            self.method.reported.clear()
            with self.compute.autocast():
                losses = self.method.losses(micro_batch, progress)
            losses = {name: loss * share for name, loss in losses.items()}
            torch.stack([loss.float() for loss in losses.values()]).sum().backward()
            shown = {name: value * share for name, value in self.method.reported.items()}
            for name, value in {**losses, **shown}.items():
                sums[name] = sums.get(name, 0) + value.detach()
            if changes is not None:
                changes.take(share)
        if changes is not None:
            changes.apply()
        return sums

    # -- checkpoints -------------------------------------------------------------------------------

    def measures_target(self) -> bool:
        """Whether normalisation statistics of the target are measured at every checkpoint."""
        wanted = self.settings.target_statistics
        return "target" in self.sampler.domains and (
            wanted == "on" or (wanted == "auto" and self.method.learns_target(self.sampler.domains))
        )

    def adapt_statistics(self, *, final: bool = False) -> Iterator[Advanced]:
        """Measure normalisation statistics (AdaBN, Li et al. 2017) and class shares on the target.

        Args:
            final: whether the model will be selected, and is calibrated on more tiles.

        Yields:
            Advanced after each part, as the next three do.
        """
        yield from self.measure(self.method, final=final)
        self.measured = True

    def measure_statistics(
        self, method: Method, batches: int, enough: Callable[[], bool] = lambda: False
    ) -> Iterator[Advanced]:
        """Measure normalisation statistics of a method on the target.

        Args:
            method: whose predictor is measured.
            batches: number of batches.
            enough: whether to do without the rest of them, asked after each.
        """
        drawing = self.device_volumes or self.sampler
        yield from measure_target(method.predictor, drawing, self.compute, batches, enough)
        mix_statistics(method.predictor, method.postprocessing.target_statistics_weight)

    def measure(
        self, method: Method, batches: int | None = None, *, final: bool = False
    ) -> Iterator[Advanced]:
        """Measure normalisation statistics and class shares of a method on the target."""
        yield from self.measure_statistics(method, batches or STATISTICS_BATCHES)
        yield from self.calibrate(method, final=final)

    def calibrate(self, method: Method, *, final: bool = False) -> Generator[Advanced]:
        """Measure class shares of a method on the target, if it asks for that."""
        postprocessing = method.postprocessing
        if postprocessing.measured:
            predictor = Predictor(method.predictor, self.header, self.compute)
            prior = postprocessing.shares or self.method.summary.prior
            sample = self.calibration_sample(postprocessing, final=final)
            self.z_smoothing = yield from calibrate(
                predictor, self.sampler.regions("target"), prior, postprocessing, sample
            )

    def calibration_sample(
        self, postprocessing: Postprocessing, *, final: bool
    ) -> CalibrationSample:
        """How much to predict for a calibration: class shares need more tiles than agreement."""
        sections = self.method.network.stack
        if not postprocessing.prior_strength:
            return CalibrationSample(
                _AGREEMENT_TILES, self.settings.patch, flips=False, sections=sections
            )
        return CalibrationSample(
            _TILES if final else _FEWER_TILES,
            2 * self.settings.patch,
            postprocessing.flips and final,
            sections,
        )

    def header_of(self, step: int) -> ModelHeader:
        """The header of the model of a step."""
        domain = "target" if self.measures_target() else self.header.prediction_domain
        update = {"step": step, "prediction_domain": domain, "z_smoothing": self.z_smoothing}
        return self.header.model_copy(update=update)

    def state_of(self, step: int, *, in_haste: bool = False) -> TrainingState:
        """The state of the training after a step."""
        scores = self.state.validations.get(step, {})
        update = {"scores": scores, "pending": self.tally.sums(), "in_haste": in_haste}
        return self.state.model_copy(update=update)

    def write(self, step: int, *, in_haste: bool = False) -> None:
        """Write the checkpoint of a step as it is, with nothing measured anew.

        Args:
            step: the last one.
            in_haste: whether something was left out that belongs to a checkpoint.
        """
        self.header = self.header_of(step)
        self.state = self.state_of(step, in_haste=in_haste)
        checkpoint.save(
            self.path, self.header, self.method, training=self.state, optimiser=self.optimiser
        )

    # -- validations -------------------------------------------------------------------------------

    def validation_due(self, step: int) -> bool:
        """Whether the model of this step is to be validated."""
        return step in self.validated_at

    def cut_off(self, step: int) -> bool:
        """Whether a stop has cut off what comes after this step: its validation, or the last save.

        Args:
            step: of the checkpoint from which the training goes on.
        """
        if not step:
            return False
        if self.validation_due(step):
            is_scored = self.validator is None or step in self.state.validations
            if not is_scored or self.tally.sums():
                return True
        return self.state.in_haste and (step == self.settings.steps or self.flat)

    @property
    def flat(self) -> bool:
        """Whether the last validations brought nothing better, see `model_selection.flat`."""
        return model_selection.flat(self.state.validations, self.settings)
