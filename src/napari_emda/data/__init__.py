"""Volumes, boxes, grey values and stored probabilities, without learning, files or Qt."""
