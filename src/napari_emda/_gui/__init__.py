"""The dock in napari: thin panels around the project, with all long work in a child process."""
