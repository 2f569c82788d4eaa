"""The fifth panel: results as files."""
