"""The second panel: train a method, and show its curves and previews."""
