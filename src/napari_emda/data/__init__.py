"""Volumes: what they are, where they come from, and how patches are drawn from them. No torch, no Qt in the files."""
