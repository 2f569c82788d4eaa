"""The third panel: patches are suggested, corrected by hand, and learnt from."""
