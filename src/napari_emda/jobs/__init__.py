"""Runs jobs, one module for each kind: in a thread, a child process or on a cluster."""
