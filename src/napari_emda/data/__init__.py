"""Volumes, boxes, grey values and stored probabilities; no learning, no files, no Qt."""
