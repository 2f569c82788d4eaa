"""Training methods, one file each; each registers itself with `base.methods`."""
