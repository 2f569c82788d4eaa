"""The phases of a training, and how much work each of them is."""

from __future__ import annotations

from napari_emda.events import Phase
from napari_emda.training.prior_matching import CalibrationSample
from napari_emda.training.target_statistics import STATISTICS_BATCHES, VALIDATION_BATCHES
from napari_emda.training.trainer import Training
from napari_emda.training.validation import TILES, tile_side

# Forward passes whose work is that of one step, which goes forward, and back for about twice that.
_PASSES_OF_STEP = 3

# What a step takes besides, in pixels of a forward pass: drawing, augmenting, optimising. Measured
# on a CPU with patches of 32 pixels, where it is most of the step.
_OVERHEAD = 50_000

# Writing a checkpoint, in steps. It hardly depends on anything, and is measured at the first one.
_WRITING = 1.0

TRAINING = "Training"
SCORING = "Scoring the model"
CALIBRATING = "Calibrating"
SAVING = "Saving"
CHOOSING = "Choosing the model"
PREVIEW = "Drawing the preview"


class Phases:
    """Says which phase of a training begins, and how much work is ahead, in steps.

    The amounts are pixels that go through the network. They need not be exact: whoever reads them
    measures what a phase takes as soon as it was there once.

    Args:
        training: whose phases these are.
    """

    def __init__(self, training: Training) -> None:
        self._training = training
        settings = training.settings
        domains = sum(training.method.draws(domain) for domain in training.sampler.domains)
        pixels = settings.batch * settings.patch**2
        self._step = _PASSES_OF_STEP * max(1, domains) * pixels + _OVERHEAD
        self._target_batch = pixels
        # Steps between two checkpoints; slow trainings are also saved after some time.
        self._save_every = settings.save_every
        self._saved = 0

    def began(self, step: int) -> Phase:
        """The steps begin or go on; ``step`` of them are done."""
        return self._phase(TRAINING, step)

    def scoring(self, step: int) -> Phase:
        """The model of this step is validated."""
        return self._phase(SCORING, step)

    def saving(self, step: int) -> Phase:
        """The model of this step is measured on the target and written."""
        if 0 < step - self._saved < self._save_every and step < self._training.settings.steps:
            self._save_every = step - self._saved
        self._saved = step
        return self._phase(self._saving, step)

    def choosing(self) -> Phase:
        """All steps are done, and the model to use is made."""
        return self._phase(CHOOSING, self._training.settings.steps)

    def preview(self, step: int) -> Phase:
        """The user's view is predicted."""
        return self._phase(PREVIEW, step)

    @property
    def _saving(self) -> str:
        return CALIBRATING if self._training.measures_target() else SAVING

    def _phase(self, name: str, step: int) -> Phase:
        works = self._works()
        ahead = {
            TRAINING: float(self._training.settings.steps - step),
            SCORING: works[SCORING] * sum(at > step for at in self._training.validated_at),
            self._saving: works[self._saving] * -(-self._steps_left(step) // self._save_every),
            CHOOSING: works[CHOOSING],
        }
        work = ahead[TRAINING] if name == TRAINING else works.get(name, 0.0)
        if name in (TRAINING, CHOOSING):
            del ahead[name]
        ahead = {other: amount for other, amount in ahead.items() if amount > 0}
        return Phase(name, work, ahead, counted=name == TRAINING)

    def _steps_left(self, step: int) -> int:
        return self._training.settings.steps - step

    def _works(self) -> dict[str, float]:
        """The work of one phase of each kind, in steps."""
        settings = self._training.settings
        post = self._training.method.postprocessing
        sections = 3 if post.z_smoothing else 1
        copies = 4 if post.flips else 1
        # Each tile is predicted as it is and turned.
        tiles = 2 * TILES * tile_side(settings) ** 2 * sections * copies
        scoring = tiles + self._measuring(VALIDATION_BATCHES, final=False)
        # The average of several models is scored once more.
        scored_again = tiles if len(self._training.validated_at) > 1 else 0
        choosing = self._measuring(STATISTICS_BATCHES, final=True) + scored_again
        return {
            SCORING: scoring / self._step if self._training.validator is not None else _WRITING,
            self._saving: self._measuring(STATISTICS_BATCHES, final=False) / self._step + _WRITING,
            CHOOSING: (choosing / self._step if settings.validations else 0.0) + _WRITING,
        }

    def _measuring(self, batches: int, *, final: bool) -> float:
        """Pixels that are predicted to measure statistics and class shares on the target."""
        if not self._training.measures_target():
            return 0.0
        pixels = float(batches * self._target_batch)
        post = self._training.method.postprocessing
        if post.measured:
            pixels += _pixels(self._training.calibration_sample(post, final=final))
        return pixels


def _pixels(sample: CalibrationSample) -> float:
    # Each tile is predicted with the sections before and after it.
    return 3.0 * sample.tiles * sample.side**2 * (4 if sample.flips else 1)
