"""The training loop, validation without labels, and which model is kept."""
