"""What is said of the chosen layers."""

import pytest

from napari_emda._gui.data.remarks import mask_remark, size_remark, sizes_needed, what_is_needed

SPACING = (50, 4.6, 4.6)


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ({"the source": "zyx"}, "The voxel size of the source is not known: type it"),
        (
            {"the source": "zyx", "the target": "z"},
            "The voxel size of the source and the distance of the sections of the target (z) are "
            "not known: type them",
        ),
        ({"the source": "z"}, "The distance of the sections of the source (z) is"),
        ({"the target": "x"}, "The voxel size of the target along x is not known"),
        ({"the source": "", "the target": ""}, ""),
    ],
)
def test_sizes_that_are_not_known_are_asked_for(missing, words):
    needed = sizes_needed(missing)
    assert needed.startswith(words) if words else not needed


@pytest.mark.parametrize(
    ("source", "target", "words"),
    [
        ((50, 4, 4), (50, 9, 9), "a factor of 2.2"),
        ((50, 4, 4), (20, 8, 8), ""),
        (None, SPACING, ""),
        (SPACING, None, ""),
    ],
)
def test_very_different_voxel_sizes_are_remarked_on(source, target, words):
    remark = size_remark(source, target)
    assert (words in remark) if words else not remark


def test_a_mask_in_place_of_an_image_is_named():
    assert mask_remark({}) == ""
    assert "'m' is a mask, not an image" in mask_remark({"target": "m"})


@pytest.mark.parametrize(
    ("missing", "state", "words"),
    [
        (["a target image"], {"one_image": True}, "Only one volume, labelled in part?"),
        (["labels of the source"], {}, "right-click the layer > Convert to Labels"),
        (
            ["a model", "a target image"],
            {},
            "in its list, or its file by the button beside it. Open",
        ),
        ([], {"asks": True}, "an answer to the question about the labels"),
        ([], {"unlabelled": True}, "a model finds clusters"),
    ],
)
def test_what_is_needed_is_said_with_the_way_on(missing, state, words):
    options = {"asks": False, "one_image": False, "unlabelled": False, **state}
    assert words in what_is_needed(missing, "", **options)


def test_a_model_is_not_opened_as_a_layer():
    options = {"asks": False, "one_image": False, "unlabelled": False}
    assert "napari" not in what_is_needed(["a model"], "", **options)


def test_sizes_are_asked_for_when_the_layers_are_chosen():
    options = {"asks": False, "one_image": False, "unlabelled": False}
    assert what_is_needed([], "Type it.", **options) == "Type it."
    assert "Type it." not in what_is_needed(["a target image"], "Type it.", **options)
