"""The formats that images are written in, one file each."""
