"""Networks and losses; they know nothing about files."""
