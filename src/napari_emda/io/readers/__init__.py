"""The file formats that images and labels are read from, one file each."""
