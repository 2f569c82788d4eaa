"""A project: a folder of plain files, and everything that may change it."""
