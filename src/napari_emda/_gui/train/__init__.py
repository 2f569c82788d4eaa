"""The second panel: a method is trained and its curves and previews are shown."""
