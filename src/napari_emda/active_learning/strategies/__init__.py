"""Query strategies, one file each, in the registry `active_learning.strategy.strategies`."""
