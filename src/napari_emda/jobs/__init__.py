"""Carries jobs out, one module for each kind: the same in a thread, a child process or on a cluster."""
