"""``python -m napari_emda`` is the command line."""

from napari_emda.cli import main

if __name__ == "__main__":
    main()
