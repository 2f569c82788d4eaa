"""How good a prediction is, with true labels and without any."""
