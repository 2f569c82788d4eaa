"""Query strategies, one file each; each registers itself with `napari_emda.active_learning.strategy.strategies`."""
