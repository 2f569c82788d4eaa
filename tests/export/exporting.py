"""Export stored probabilities as the job does, without a project and a model."""

from pathlib import Path

from napari_emda.data.probabilities import ClassProbability
from napari_emda.data.volume import Volume
from napari_emda.export.base import Result, exporters


def export(
    exporter,
    probabilities,
    path,
    grid,
    *,
    chosen=None,
    overwrite=False,
    volume="cell",
    **settings,
):
    """The events of an export; classes are called class 1, class 2 ….

    Args:
        exporter: a name; or an exporter's class in tests that must not load torch.
    """
    cls = exporters[exporter] if isinstance(exporter, str) else exporter
    classes = tuple(f"class {k}" for k in range(1, probabilities.shape[0] + 1))
    result = Result(
        "001-run",
        Path("nowhere"),
        Volume(volume, ClassProbability(probabilities, 1), "target", grid),
        classes,
        cls.class_ids(classes, chosen),
        probabilities,
    )
    return cls(cls.Settings.parse(settings)).export(result, path, overwrite=overwrite)
