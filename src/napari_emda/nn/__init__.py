"""Networks and losses; they know nothing of files."""
