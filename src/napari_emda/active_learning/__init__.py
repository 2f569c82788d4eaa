"""Which patches of the target to annotate next."""
