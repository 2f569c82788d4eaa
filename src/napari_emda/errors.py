"""Errors that a user can correct; a message is one sentence: what is wrong, the limit, the remedy.

None of them derives from ``RuntimeError``, because napari's generator workers swallow that one.
"""


class EmdaError(Exception):
    """Invalid input; the command line exits with status 2."""


class SettingsError(EmdaError):
    """An unknown or out-of-range setting, method or strategy."""


class DataError(EmdaError):
    """An image, label image or voxel size that cannot be used."""


class JobError(EmdaError):
    """A project, run or job that cannot be used as asked."""
