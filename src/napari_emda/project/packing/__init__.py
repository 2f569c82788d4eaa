"""Projects that travel: a zip file of a project, with a hash of every file in it."""
