r"""Plays first hours in a real viewer, by clicks and keys alone, and takes the pictures.

    xvfb-run -a -s "-screen 0 1366x768x24" python -m docs.make_screenshots
    xvfb-run -a -s "-screen 0 1024x768x24" python -m docs.make_screenshots --size 1024 768
    xvfb-run -a -s "-screen 0 1366x768x24" python -m docs.make_screenshots \
        --story phantom --chapters 6 --film --to FOLDER
    xvfb-run -a python -m docs.make_screenshots --story lucchi --data DATA --to FOLDER

The stories: ``phantom`` (what ``napari-emda demo`` opens), ``own`` (one's own TIFFs, without voxel
size and with the mask opened as an image), ``no-labels``, and ``objects`` (going through the
objects of a prediction). Two are about real data, whose pictures are not of the project:
``lucchi``, which goes through objects, and ``model``, which starts from the model of another
project, with check points and corrections by object. DATA holds vnc/ and lucchi/, see
docs/benchmark-few-labels.md. A picture is called after its story, step and size; with ``--film``,
the story also becomes an animated one. Clicks and seconds are printed for each step; keys count
apart from clicks.

The hidden truth of the phantom decides what is painted and which clusters are clicked. Trainings
are short: the pictures show the way, not what the methods can do.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from napari.settings import get_settings

from docs.stories.film import Film
from docs.stories.from_model import FromModel
from docs.stories.no_labels import NoLabels
from docs.stories.objects import LucchiObjects, PhantomObjects
from docs.stories.own_files import OwnFiles
from docs.stories.phantom import Phantom

IMAGES = Path(__file__).parent / "images"
# A laptop, the smallest screen on which everything must fit beside a canvas of 700 pixels.
SIZE = (1366, 768)
_STORIES = (Phantom, OwnFiles, NoLabels, PhantomObjects, LucchiObjects, FromModel)
STORIES = {story.name: story for story in _STORIES}


def main() -> None:
    """Play the chosen stories one after the other."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    synthetic = [name for name, story in STORIES.items() if not story.needs_data]
    parser.add_argument("--story", nargs="+", choices=STORIES, default=synthetic)
    parser.add_argument("--data", type=Path, help="folder of real volumes")
    parser.add_argument("--size", type=int, nargs=2, default=SIZE, metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--steps", type=int, default=150, help="of the trainings")
    parser.add_argument("--chapters", type=int, help="of the stories to play; by default all")
    parser.add_argument(
        "--corrected", type=int, help="most patches to paint in a round, for a quick look"
    )
    parser.add_argument("--film", action="store_true", help="make an animated picture, too")
    parser.add_argument("--theme", choices=("dark", "light"), default="dark")
    parser.add_argument("--to", type=Path, default=IMAGES, help="folder for the pictures")
    parser.add_argument("--play", choices=STORIES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    needing = [name for name in options.story if STORIES[name].needs_data]
    if needing and options.data is None:
        parser.error(f"--data is missing, which {' and '.join(needing)} need")
    options.to.mkdir(parents=True, exist_ok=True)
    if options.play:
        get_settings().appearance.theme = options.theme
        story = STORIES[options.play](options.size, options.steps, options.to)
        story.most_corrected = options.corrected
        story.data = options.data
        story.film = Film() if options.film else None
        story.play(options.chapters)
        if story.film is not None:
            story.film.save(options.to / f"{story.name}.gif")
        return
    for name in options.story:
        # A home of its own: the pictures show ~, napari starts as on the first day, and no folder
        # of this machine is touched. Set before napari is imported, which looks for it then.
        with tempfile.TemporaryDirectory() as home:
            command = [sys.executable, "-m", "docs.make_screenshots", *sys.argv[1:], "--play", name]
            environment = {**os.environ, "HOME": home, "USERPROFILE": home}
            subprocess.run(command, env=environment, check=True)


if __name__ == "__main__":
    main()
