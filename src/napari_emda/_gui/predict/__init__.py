"""The fourth panel: a volume is segmented and the mask is shown."""
