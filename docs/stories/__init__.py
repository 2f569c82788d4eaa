"""First hours with the dock, played by clicks and keys."""
