"""What a training makes of one volume's look: a piece of it as it is and translated, one layer each."""

from __future__ import annotations

from functools import partial

import numpy as np
from napari.layers import Image

from napari_emda._gui.session import Session
from napari_emda.data.box import Box
from napari_emda.events import Translated

_NAMES = ("preview original look", "preview translated look")


def show_translation(session: Session, event: Translated) -> None:
    """Put both into their layers, so that what was drawn or wiped out can be seen by switching between them."""
    try:
        pair = np.load(event.path, allow_pickle=False)
    except (OSError, ValueError):  # replaced or removed meanwhile: the next one comes soon
        return
    if pair.ndim != 3 or session.annotating or session.image(event.volume) is None:
        return
    where = session.place(event.volume).arguments(corner=Box.from_bounds(event.box).start)
    for name, values in zip(_NAMES, pair[:, None], strict=True):
        # hidden at first: it would cover what the user looks at
        make = partial(Image, values, name=name, contrast_limits=(0, 255), visible=False, **where)
        layer = session.output(name, event.volume, make)
        if layer is not None and layer.data is not values:
            layer.data = values
            layer.translate = where["translate"]
