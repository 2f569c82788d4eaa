"""The names of all attacks of each kind; see `tests.faults.campaign`."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator

from tests.faults.campaign import DECIDING, Campaign, Reference
from tests.faults.cases import COMMANDS
from tests.faults.power import VARIANTS
from tests.faults.shim import ERRORS

# Commands that are not in the attacks on writing: they write nothing, or as others do.
READING = (
    "score",
    "read",
    "mend",
    "predict to",
    "run",
    "careless",
    *(name for name in COMMANDS if "new " in name),
)

LIMITS = {
    "AS": (4, 16, 40, 80, 160, 320),  # MiB
    "NOFILE": (6, 9, 12, 16, 24),
    "FSIZE": (0, 100, 2000, 20_000),  # bytes
}

PAIRS = (
    ("predict", "predict last"),
    ("predict again", "score"),
    ("predict", "predict"),
    ("resume", "resume"),
    ("suggest", "annotate"),
    ("annotate", "annotate"),
    ("annotate", "annotate all"),
    ("decide", "suggest"),
    ("replace zarr", "replace zarr"),
    ("export tif", "export tif"),
    ("export zarr", "score"),
    ("resume", "predict"),
    ("train", "train"),
    ("new", "new"),
    ("start", "start"),
    ("unpack", "unpack"),
    ("pack", "pack"),
    ("pack", "suggest"),
    ("report", "annotate"),
    ("predict again", "export tif"),
)


def names_of(
    kind: str, campaign: Campaign, count: int, seed: int, only: Collection[str] = ()
) -> Iterator[str]:
    """The names of all attacks of a kind.

    Args:
        kind: of the attacks.
        campaign: that carries them out.
        count: of inputs, moments and pairs, which are as many as one likes.
        seed: of the first of these.
        only: commands; by default all.
    """
    writing = [name for name in COMMANDS if name not in READING]
    if only:
        writing = [name for name in writing if name in only]
    if kind == "input":
        yield from (f"input:{number}" for number in range(seed, seed + count))
    elif kind == "moment":
        for number in range(seed, seed + count):
            yield f"moment:{random.Random(number).choice(writing)}:{number}"
    elif kind in ("stop", "start"):
        named = [name for name in writing if kind == "stop" or name not in DECIDING]
        for number in range(seed, seed + count):
            which = ("SIGTERM", "SIGINT")[number % 2]
            yield f"{kind}:{random.Random(number).choice(named)}:{which}:{number}"
    elif kind == "pair":
        for number in range(seed, seed + max(1, count // len(PAIRS))):
            yield from (f"pair:{first}:{second}:{number}" for first, second in PAIRS)
    elif kind == "limit":
        for name in (*writing, "score", "run"):
            for which, values in LIMITS.items():
                yield from (f"limit:{name}:{which}:{value}" for value in values)
    else:
        for name in writing if kind != "disk" else (*writing, "score", "read", "run"):
            yield from at_each_change(kind, name, campaign.reference(name, reads=kind == "disk"))


def at_each_change(kind: str, name: str, reference: Reference) -> Iterator[str]:
    """The names of a kind of attack on a command, one or several at each of its changes."""
    for at in range(1, len(reference.changes) + 1):
        if kind == "fault":
            for error in ERRORS:
                yield f"fault:{name}:fail:{error}:{at}"
            yield f"fault:{name}:fail on:ENOSPC:{at}"
            yield f"fault:{name}:torn:ENOSPC:{at}"
        elif kind == "kill":
            yield f"kill:{name}:kill:{at}"
            yield f"kill:{name}:torn kill:{at}"
        elif kind == "power":
            yield from (f"power:{name}:{variant}:{at}" for variant in VARIANTS)
        elif kind == "signal":
            yield f"signal:{name}:{('SIGTERM', 'SIGINT')[at % 2]}:{at}"
        else:
            yield f"disk:{name}:EIO:{at}"
