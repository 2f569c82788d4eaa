"""Whatever a text holds, it is read or refused with one kind of error."""

from __future__ import annotations

import pytest

from napari_emda.json_text import parse_json


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, b"\xff", "9" * 5000, "", "{"])
def test_no_json_is_a_value_error(text):
    with pytest.raises(ValueError):
        parse_json(text)


def test_json_is_read():
    assert parse_json(b'{"a": [1, "\xc3\xa4", null]}') == {"a": [1, "ä", None]}
