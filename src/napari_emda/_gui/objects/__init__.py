"""The panel that goes through the objects of a prediction, and decides on them."""
