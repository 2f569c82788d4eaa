"""What can be exported, one file for each kind of result."""
