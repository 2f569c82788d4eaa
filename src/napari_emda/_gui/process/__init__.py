"""Jobs in child processes, their events, and the strip that shows them."""
