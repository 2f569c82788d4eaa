"""Adaptive batch normalisation."""

from napari_emda.methods.base import Method, methods
from napari_emda.settings.requirements import Requirements


@methods.register("adabn")
class AdaBN(Method):
    """Trains on the source, then takes the normalisation from the target: free, rarely harmful.

    Li et al. 2017: the means and variances of batch normalisation are measured on unlabelled
    target patches. Every other method that uses the target does the same at its checkpoints
    (setting ``target_statistics``).
    """

    citations = ("li2017",)
    requirements = Requirements(domains=("source", "target"), labels="needed")
