"""The first panel: source, target and classes; and names for clusters."""
