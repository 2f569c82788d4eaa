"""The line at the top of the dock: where the user is, and the next step."""
