"""Removing layers of the dock."""

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image

from napari_emda._gui.common.canvas import remove_layers


def test_layers_are_removed_in_one_batch():
    viewer = ViewerModel()
    layers = [viewer.add_image(np.zeros((2, 4, 4)), name=str(index)) for index in range(4)]
    gone = Image(np.zeros((2, 4, 4)))
    heard = []
    for name in ("begin_batch", "removed", "end_batch"):
        getattr(viewer.layers.events, name).connect(lambda event: heard.append(event.type))
    remove_layers(viewer, [layers[0], None, gone, layers[2]])
    assert [layer.name for layer in viewer.layers] == ["1", "3"]
    assert heard == ["begin_batch", "removed", "removed", "end_batch"]
