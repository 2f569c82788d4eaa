"""Balanced patches at one pixel size, and their augmentation."""
