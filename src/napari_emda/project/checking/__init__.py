"""Looks for damage in a project's folder, and mends what can be mended."""
