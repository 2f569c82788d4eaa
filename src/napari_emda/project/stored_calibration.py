"""The calibration of a prediction, in a file beside it: it is in use as long as it is there."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from napari_emda.data.calibration import LARGEST_OFFSET, SLOPES, Calibration
from napari_emda.errors import JobError
from napari_emda.io.atomic import sync, write_text
from napari_emda.io.safe_files import read_file
from napari_emda.json_text import parse_json
from napari_emda.project.prediction_journal import PLAN
from napari_emda.project.run_folder import RunFolder
from napari_emda.project.stored_prediction import StoredPrediction

# What a header says of how the volume was cut and what else was stored: the probabilities do not
# depend on it.
_NO_ORIGIN = (*PLAN, "precision", "engine", "uncertainty", "object_maps")


def origin_of(prediction: StoredPrediction) -> dict[str, Any]:
    """What the probabilities of a prediction depend on: model, image and settings."""
    return {key: value for key, value in prediction.header.items() if key not in _NO_ORIGIN}


class StoredCalibration(BaseModel):
    """``calibration-<volume>.json`` of a run.

    Attributes:
        format: of the file.
        slope: see `Calibration`.
        offset: see `Calibration`.
        threshold: see `Calibration`.
        points: that were answered when it was made.
        prediction: that it belongs to, see `origin_of`; of another one it is not used.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    format: Literal[1] = 1
    slope: float = Field(ge=SLOPES[0], le=SLOPES[1])
    offset: float = Field(ge=-LARGEST_OFFSET, le=LARGEST_OFFSET)
    threshold: float = Field(gt=0, lt=1)
    points: int = Field(0, ge=0)
    prediction: dict[str, Any] = Field(default_factory=dict)

    @property
    def calibration(self) -> Calibration:
        """The numbers."""
        return Calibration(self.slope, self.offset, self.threshold)


def read_calibration(run: RunFolder, volume: str) -> StoredCalibration | None:
    """The calibration of a volume's prediction, of whichever; None if there is none.

    Raises:
        JobError: the file is damaged, of a newer version, or cannot be read.
    """
    path = run.calibration(volume)
    try:
        return StoredCalibration.model_validate(parse_json(read_file(path)))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise JobError(
            f"'{path}' cannot be read ({error.strerror}): check its permissions and its disk."
        ) from None
    except (ValidationError, ValueError):
        raise JobError(
            f"'{path}' is damaged or of a newer version: delete it, and calibrate again with "
            "'napari-emda check-points --use'."
        ) from None


def calibration_in_use(run: RunFolder, volume: str) -> StoredCalibration | None:
    """The calibration of a volume's prediction as it is now; None if there is none."""
    stored = read_calibration(run, volume)
    # Reading the journal of a prediction takes a moment, which most projects need not wait.
    if stored is None or stored.prediction != origin_of(StoredPrediction(run, volume)):
        return None
    return stored


def write_calibration(run: RunFolder, volume: str, stored: StoredCalibration | None) -> None:
    """Use a calibration from now on, or none; on disk when this returns."""
    path = run.calibration(volume)
    if stored is None:
        path.unlink(missing_ok=True)
        sync(path.parent)
    else:
        write_text(path, stored.model_dump_json(indent=2) + "\n")


def described(run: RunFolder, volume: str) -> dict[str, Any]:
    """All that the mask of a prediction follows from: its header, and its calibration."""
    header = StoredPrediction(run, volume).header
    stored = calibration_in_use(run, volume)
    if stored is None:
        return header
    return {**header, "calibration": [stored.slope, stored.offset, stored.threshold]}
