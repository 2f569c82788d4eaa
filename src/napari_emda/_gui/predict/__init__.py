"""The fourth panel: segment a volume and show the mask."""
