"""What Python need not look at when it collects garbage."""

import gc
import threading
import weakref

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_emda._gui.common.permanent_objects import PermanentObjects


@pytest.fixture
def viewer():
    return ViewerModel()


@pytest.fixture
def permanent(qapp, viewer):
    objects = PermanentObjects(viewer)
    yield objects
    objects.release()


class _Knot:
    """Garbage that only a collection finds, because it holds itself."""

    def __init__(self):
        self.itself = self


def test_a_collection_leaves_out_what_is_permanent_until_the_end(permanent):
    everything = len(gc.get_objects())
    permanent.declare()
    assert len(gc.get_objects()) < everything / 10
    knot = _Knot()
    gone = weakref.ref(knot)
    permanent.declare()
    del knot
    gc.collect()
    assert gone() is not None
    permanent.release()
    gc.collect()
    assert gone() is None


def test_a_layer_that_is_removed_is_freed_and_what_stays_is_permanent_again(
    qtbot, viewer, permanent
):
    layer = viewer.add_image(np.zeros((2, 4, 4)))
    viewer.add_image(np.zeros((2, 4, 4)), name="stays")
    # As layers are: they hold themselves by their events.
    layer.metadata["itself"] = layer
    gone = weakref.ref(layer)
    permanent.declare()
    viewer.layers.remove(layer)
    del layer
    # As napari does when its canvas has removed the layer.
    gc.collect()
    assert gone() is None
    qtbot.waitUntil(lambda: gc.get_freeze_count() > 0)


def test_a_later_layer_is_freed_without_a_look_at_the_rest(qtbot, viewer, permanent):
    permanent.declare()
    frozen = gc.get_freeze_count()
    layer = viewer.add_image(np.zeros((2, 4, 4)))
    # napari holds the layer that was selected last.
    viewer.add_image(np.zeros((2, 4, 4)), name="stays")
    layer.metadata["itself"] = layer
    gone = weakref.ref(layer)
    viewer.layers.remove(layer)
    del layer
    gc.collect()
    assert gone() is None
    assert gc.get_freeze_count() == pytest.approx(frozen, rel=0.01)


def test_garbage_of_a_thread_is_collected_in_the_main_thread(qtbot, permanent):
    collected_in = []

    def make_garbage():
        knot = _Knot()
        weakref.finalize(knot, lambda: collected_in.append(threading.current_thread()))
        del knot
        # Far more than Python would wait for.
        for _ in range(50_000):
            _Knot()

    permanent.declare()
    thread = threading.Thread(target=make_garbage)
    thread.start()
    thread.join()
    assert collected_in == []
    qtbot.waitUntil(lambda: collected_in == [threading.main_thread()])
    permanent.release()
    assert gc.isenabled()


def test_python_collects_by_itself_again_only_if_it_did_before(qtbot, permanent):
    gc.disable()
    try:
        permanent.declare()
        permanent.declare()
        permanent.release()
        assert not gc.isenabled()
    finally:
        gc.enable()
    permanent.declare()
    assert not gc.isenabled()
    permanent.release()
    permanent.release()
    assert gc.isenabled()
