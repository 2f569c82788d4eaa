"""What several panels are made of: forms, widgets, colours, and layers as volumes."""
