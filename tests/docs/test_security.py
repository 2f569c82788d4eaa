"""The pages on security and on faults name tests that exist."""

from __future__ import annotations

import re

import pytest

from tests.docs.pages import DOCS, ROOT


@pytest.mark.parametrize("page", ["security.md", "benchmark-faults.md"])
def test_every_test_that_the_page_names_exists(page):
    named = set(re.findall(r"`(test_\w+)`", (DOCS / page).read_text(encoding="utf-8")))
    assert len(named) >= 10
    tests = "".join(path.read_text(encoding="utf-8") for path in ROOT.glob("tests/**/test_*.py"))
    assert named <= set(re.findall(r"^def (test_\w+)", tests, re.MULTILINE))
