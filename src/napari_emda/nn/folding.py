"""Networks for prediction alone, whose convolutions also normalise."""

from __future__ import annotations

import itertools
from copy import deepcopy

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from napari_emda.data.volume import Domain
from napari_emda.nn.network import Network
from napari_emda.nn.normalisation import DOMAINS, DomainBatchNorm2d


def folded(network: Network, domain: Domain) -> Network:
    """A copy without the normalisations that follow a convolution.

    In evaluation mode, batch normalisation multiplies each channel by a number and adds another.
    The convolution before it does the same with other weights (Jacob et al. 2018, section 3.2),
    and saves reading and writing all maps once more.

    Args:
        network: stays as it is.
        domain: whose running statistics are used.

    Returns:
        The copy, in evaluation mode. It follows neither later changes of the weights nor those of
        the statistics.
    """
    copy = deepcopy(network).eval()
    for block in copy.modules():
        if isinstance(block, nn.Sequential):
            _fold(block, DOMAINS.index(domain))
    return copy


def _fold(block: nn.Sequential, domain: int) -> None:
    layers = list(block)
    for index, (convolution, norm) in enumerate(itertools.pairwise(layers)):
        if isinstance(convolution, nn.Conv2d | nn.Conv3d) and isinstance(norm, DomainBatchNorm2d):
            convolution.weight, convolution.bias = fuse_conv_bn_weights(
                convolution.weight,
                convolution.bias,
                norm.running_mean[domain],
                norm.running_var[domain],
                norm.eps,
                norm.weight,
                norm.bias,
            )
            block[index + 1] = nn.Identity()
