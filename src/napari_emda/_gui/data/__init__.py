"""The first panel: choose source, target and classes; name clusters."""
