"""Tests, and what they share: imported as `tests.gui.fake` from the folder of the project."""
