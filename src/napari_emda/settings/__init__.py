"""Settings: one frozen model per step is form, command line, JSON and documentation at once."""
