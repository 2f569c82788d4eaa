"""The third panel: patches are suggested, corrected by hand, and used for training."""
