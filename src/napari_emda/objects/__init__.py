"""From probabilities to numbered objects, their table and their shape, block by block."""
