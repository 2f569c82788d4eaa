"""The phases of a training, and how much work each of them is."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from napari_emda.data.box import Box
from napari_emda.data.resampled import Resampled
from napari_emda.data.volume import Volume
from napari_emda.events import Advanced, Phase
from napari_emda.inference.section_stacks import SectionStacks
from napari_emda.inference.tiles import make_tile
from napari_emda.sampling.region import SamplingRegion
from napari_emda.training.prior_matching import CalibrationSample
from napari_emda.training.target_statistics import STATISTICS_BATCHES, VALIDATION_BATCHES
from napari_emda.training.trainer import Training

# Forward passes whose work is that of one step, which goes forward, and back for about twice that.
_PASSES_OF_STEP = 3

# What a step takes besides for each domain, in pixels of a forward pass: drawing, augmenting,
# optimising. Measured on a CPU with patches of 32 pixels, where it is most of the step.
_OVERHEAD = 20_000

# What a forward pass takes besides, likewise: reading the image, and calling each layer.
_PASS = 6_000

# What the average over an image and its three flipped copies takes, in predictions of the image:
# the image is read once for all of them.
_FLIPS = 3

# Writing a checkpoint, in steps. It hardly depends on anything, and is measured at the first one.
_WRITING = 0.5

TRAINING = "Training"
SCORING = "Scoring the model"
CALIBRATING = "Adjusting the model to the target"
SAVING = "Saving"
CHOOSING = "Choosing the model"
PREVIEW = "Drawing the preview"


class Phases:
    """Says which phase of a training begins, and how much work is ahead, in steps.

    The amounts are pixels that go through the network. They need not be exact: whoever reads them
    measures what a phase takes as soon as it was there once.

    Args:
        training: whose phases these are.
        on_view: the part of a section that is predicted for the user; None if nobody looks.
    """

    def __init__(
        self,
        training: Training,
        on_view: Callable[[], tuple[Volume, Box] | None] = lambda: None,
    ) -> None:
        self._training = training
        self._on_view = on_view
        settings = training.settings
        self._network = training.method.predictor
        domains = sum(training.method.draws(domain) for domain in training.sampler.domains)
        # A patch of a 3-D network is a stack of sections.
        pixels = settings.batch * self._network.stack * settings.patch**2
        self._step = max(1, domains) * (_PASSES_OF_STEP * pixels + _OVERHEAD)
        self._target_batch = pixels + _PASS
        # Pixels of a calibration, less close and close: choosing the tiles again would take time.
        self._calibrations: dict[bool, float] = {}
        self._tiles = self._work_of_tiles()
        # Steps between two checkpoints; slow trainings are also saved after some time.
        self._save_every = settings.save_every
        # The step of the last checkpoint; None before the training has begun.
        self._saved: int | None = None
        # The work of the current phase and of the parts that say how far they are; and which of
        # them is under way, from 1.
        self._work = 0.0
        self._parts: list[float] = []
        self._part = 0

    def began(self, step: int) -> Phase:
        """The steps begin or go on; ``step`` of them are done."""
        if self._saved is None:
            self._saved = step
        return self._phase(TRAINING, step)

    def scoring(self, step: int) -> Phase:
        """The model of this step is validated."""
        return self._phase(SCORING, step)

    def saving(self, step: int) -> Phase:
        """The model of this step is measured on the target and written."""
        since = step - (self._saved or 0)
        if 0 < since < self._save_every and step < self._training.settings.steps:
            self._save_every = since
        self._saved = step
        return self._phase(self._saving, step)

    def choosing(self) -> Phase:
        """All steps are done, and the weights of the model to use are put together."""
        return self._end(CHOOSING, CALIBRATING, SCORING, PREVIEW)

    def calibrating(self) -> Phase:
        """The model to use is measured on the target."""
        return self._end(CALIBRATING, SCORING, PREVIEW)

    def scoring_again(self) -> Phase:
        """The model to use is an average, and scored like those that it is made of."""
        return self._end(SCORING, PREVIEW)

    def last_preview(self) -> Phase:
        """The user's view is predicted with the model to use, after everything else."""
        return self._end(PREVIEW)

    def preview(self, step: int) -> Phase:
        """The user's view is predicted."""
        return self._phase(PREVIEW, step)

    def weighed(self, event: Advanced) -> Advanced:
        """An event of the current phase, with the share of the phase that is done."""
        if event.done == 1:
            self._part += 1
        if not 1 <= self._part <= len(self._parts):
            return event
        before = sum(self._parts[: self._part - 1])
        done = before + self._parts[self._part - 1] * event.done / event.total
        return replace(event, share=min(1.0, done / self._work))

    @property
    def _saving(self) -> str:
        return CALIBRATING if self._training.measures_target() else SAVING

    def _phase(self, name: str, step: int) -> Phase:
        """A phase before the end, with all that is ahead."""
        left = self._training.settings.steps - step
        saves = -(-(self._training.settings.steps - (self._saved or 0)) // self._save_every)
        scoring = self._scoring()
        saving = self._measuring(STATISTICS_BATCHES, final=False) + _WRITING
        # The last checkpoint is measured more closely if it is the model to use.
        closely = self._measuring(STATISTICS_BATCHES, final=True) + _WRITING - saving
        close = 0.0 if self._chooses else closely
        works = {
            TRAINING: float(left),
            SCORING: scoring,
            self._saving: saving if saves else saving + close,
        }
        ahead = defaultdict(float, self._ends())
        ahead[TRAINING] += left
        ahead[SCORING] += scoring * sum(at > step for at in self._training.validated_at)
        ahead[self._saving] += saving * saves + (close if saves else 0.0)
        if name == TRAINING:
            del ahead[TRAINING]
        final = not saves and not self._chooses
        parts = {
            SCORING: [*self._measurements(VALIDATION_BATCHES, final=False), self._tiles],
            self._saving: self._measurements(STATISTICS_BATCHES, final=final),
        }
        self._begin(works.get(name, 0.0), parts.get(name, []))
        return Phase(name, works.get(name, 0.0), _positive(ahead), counted=name == TRAINING)

    def _begin(self, work: float, parts: list[float]) -> None:
        self._work = work
        self._parts = parts
        self._part = 0

    def _end(self, name: str, *following: str) -> Phase:
        """A phase of the end, after the last step."""
        works = self._ends()
        ahead = {other: works[other] for other in following}
        parts = {
            CALIBRATING: self._measurements(STATISTICS_BATCHES, final=True),
            SCORING: [self._tiles],
        }
        self._begin(works[name], parts.get(name, []))
        return Phase(name, works[name], _positive(ahead))

    def _ends(self) -> dict[str, float]:
        """The work of each phase of the end, in steps; 0 of those that do not come."""
        training = self._training
        averages = len(training.validated_at) > 1 and training.settings.keep == "average"
        return {
            CHOOSING: _WRITING,
            CALIBRATING: (
                self._measuring(STATISTICS_BATCHES, final=True) if self._chooses else 0.0
            ),
            SCORING: self._tiles if averages and training.validator is not None else 0.0,
            PREVIEW: self._preview(),
        }

    @property
    def _chooses(self) -> bool:
        """Whether another model than that of the last step may be used."""
        training = self._training
        return bool(training.validated_at) and training.settings.keep != "last"

    def _scoring(self) -> float:
        """The work of one validation, in steps."""
        if self._training.validator is None:
            return _WRITING
        return self._tiles + self._measuring(VALIDATION_BATCHES, final=False)

    def _work_of_tiles(self) -> float:
        """The work of predicting the tiles of a validation, in steps."""
        validator = self._training.validator
        tiles = validator.tiles if validator is not None else ()
        # Each tile is predicted as it is and turned.
        return 2 * sum(self._predicting(tile.volume, tile.box) for tile in tiles)

    def _preview(self) -> float:
        """The work of predicting what the user looks at, in steps; 0 if nobody looks."""
        on_view = self._on_view()
        return 0.0 if on_view is None else self._predicting(*on_view)

    def _predicting(self, volume: Volume, box: Box) -> float:
        """The work of predicting a box of one section, in steps."""
        network = self._network
        view = Resampled(volume, self._training.header.pixel_size)
        smooths = self._training.method.postprocessing.z_smoothing
        # The sections before and after it, with which it is smoothed.
        neighbours = int(smooths and not volume.grid.sections_are_independent)
        stacks = self._stacks(volume)
        tile = make_tile(view, box, network.halo, network.stride, neighbours, stacks)
        return (tile.seen.size + _PASS) / self._step

    def _stacks(self, volume: Volume) -> SectionStacks:
        return SectionStacks.of(self._network, volume, self._training.header.section_distance)

    def _measuring(self, batches: int, *, final: bool) -> float:
        """The work of measuring statistics and class shares on the target, in steps."""
        return sum(self._measurements(batches, final=final))

    def _measurements(self, batches: int, *, final: bool) -> list[float]:
        """The work of measuring statistics and, for some methods, that of class shares."""
        if not self._training.measures_target():
            return []
        works = [batches * self._target_batch / self._step]
        post = self._training.method.postprocessing
        if post.measured:
            if final not in self._calibrations:
                sample = self._training.calibration_sample(post, final=final)
                regions = self._training.sampler.regions("target")
                self._calibrations[final] = self._pixels(regions, sample)
            works.append(self._calibrations[final] / self._step)
        return works

    def _pixels(self, regions: Sequence[SamplingRegion], sample: CalibrationSample) -> float:
        """The pixels that a calibration predicts."""
        passes = _FLIPS if sample.flips else 1
        pixels = 0.0
        for region in regions:
            stacks = self._stacks(region.view.volume)
            # Small volumes have room for fewer tiles than were asked for, or are predicted whole.
            for box in sample.boxes(region, len(regions)):
                for _, (first, stop) in sample.spans(region, box, stacks):
                    pixels += passes * ((stop - first) * box.shape[1] * box.shape[2] + _PASS)
        return pixels


def _positive(works: Mapping[str, float]) -> dict[str, float]:
    return {name: work for name, work in works.items() if work > 0}
