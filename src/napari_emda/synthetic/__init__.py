"""The phantom: synthetic tissue, seen through two microscopes."""
