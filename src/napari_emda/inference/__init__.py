"""From a trained model to the probabilities of a whole volume, block by block."""
