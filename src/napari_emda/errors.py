"""What can go wrong by the user's hand; every message is one sentence: what, the limit, the remedy.

None of these derives from ``RuntimeError``: napari's generator workers swallow that one.
"""


class EmdaError(Exception):
    """A mistake that the caller can mend; the command line answers it with exit status 2."""


class SettingsError(EmdaError):
    """An unknown or out-of-range setting, method or strategy."""


class DataError(EmdaError):
    """An image, label image or voxel size that cannot be used."""


class JobError(EmdaError):
    """A project, run or job that cannot be used as asked."""
