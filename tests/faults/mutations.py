"""Changes of files, by a seed: bytes that flip, ends that lack, numbers and names that lie."""

from __future__ import annotations

import json
import os
import random
import struct
from pathlib import Path
from typing import Any

NONSENSE: tuple[Any, ...] = (
    *(float("nan"), float("inf"), -float("inf"), 1e308, 1e-300, 0.5, -1, 0, 1, 3, 255),
    *(2**31, 2**63, -(2**63), None, True, False, [], {}, [[]], [None], {"a": {}}),
    *("", " ", "x" * 5000, "a" * 300, "../../outside", "..", "/", "/etc/passwd", ".", "{}"),
    *("\x00", "\x1b[2J", "a\nb", "[red]x[/red]", "\ud800", "\u202e", "NaN", "-1", "latest", "con"),
    *("0:1,0:1", "0:9,0:999,0:999", "-1:1,0:1,0:1"),
)
"""Values in the place of others."""

# Texts that JSON cannot be made of, in place of a value.
RAW = ("9" * 5000, "[" * 3000, "1e999999", "-", "\x00", '"', "Infinity", '{"a":1,"a":2}')


def mutate(path: Path, seed: int, outside: Path) -> str:
    """Change a file, and say how.

    Args:
        path: of the file.
        seed: of all choices.
        outside: a file that must not change, for links.
    """
    rng = random.Random(seed)
    if rng.random() < 0.06:
        return _replaced(path, rng, outside)
    data = path.read_bytes()
    structured = {
        ".json": _json,
        ".jsonl": _lines,
        ".safetensors": _safetensors,
        ".txt": _bytes,
    }.get(path.suffix, _bytes)
    change = structured if rng.random() < 0.7 else _bytes
    try:
        changed, what = change(data, rng)
    except (ValueError, KeyError, IndexError, struct.error):
        changed, what = _bytes(data, rng)
    path.write_bytes(changed)
    return what


def _replaced(path: Path, rng: random.Random, outside: Path) -> str:
    """Something else in the place of the file."""
    what = rng.choice(("gone", "folder", "link", "pipe", "empty", "loop"))
    path.unlink()
    if what == "folder":
        path.mkdir()
    elif what == "link":
        path.symlink_to(outside)
    elif what == "loop":
        path.symlink_to(path)
    elif what == "pipe":
        os.mkfifo(path)
    elif what == "empty":
        path.touch()
    return what


def _bytes(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    values = bytearray(data)
    what = rng.choice(("flip", "flip", "flip", "cut", "longer", "zeros", "twice", "noise", "gap"))
    if not values:
        return rng.randbytes(rng.randrange(1, 200)), "noise in an empty file"
    # Most of what can go wrong is described at the beginning of a file, or at its end.
    middle = rng.choice((rng.randrange(len(values)), rng.randrange(min(len(values), 600))))
    length = rng.choice((1, 4, 16, 200))
    if what == "flip":
        for _ in range(rng.choice((1, 1, 2, 8))):
            near = min(len(values) - 1, max(0, middle + rng.randrange(-20, 20)))
            values[near] ^= 1 << rng.randrange(8)
    elif what == "cut":
        del values[middle:]
    elif what == "longer":
        values += rng.randbytes(length)
    elif what == "zeros":
        values[middle : middle + length] = bytes(len(values[middle : middle + length]))
    elif what == "twice":
        values[middle:middle] = values[middle : middle + length]
    elif what == "noise":
        values[middle : middle + length] = rng.randbytes(length)
    else:
        del values[middle : middle + length]
    return bytes(values), f"{what} at {middle}"


def _json(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    values = json.loads(data)
    changed, what = _value_changed(values, rng)
    text = json.dumps(changed)
    if rng.random() < 0.1:
        # A marker becomes what `json.dumps` cannot write.
        raw = rng.choice(RAW)
        text = text.replace(json.dumps(_leaf(changed, rng)), raw, 1)
        what += f", then {raw[:12]!r}"
    return text.encode("utf-8", "surrogatepass"), what


def _lines(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    lines = data.splitlines(keepends=True)
    if not lines:
        raise ValueError
    index = rng.randrange(len(lines))
    what = rng.choice(("value", "value", "value", "torn", "joined", "gone", "again", "foreign"))
    if what == "value":
        changed, how = _json(lines[index], rng)
        lines[index] = changed + b"\n"
        what = how
    elif what == "torn":
        lines[index] = lines[index][: rng.randrange(len(lines[index]))] + b"\n"
    elif what == "joined":
        lines[index] = lines[index].rstrip(b"\n")
    elif what == "gone":
        del lines[index]
    elif what == "again":
        lines.insert(rng.randrange(len(lines)), lines[index])
    else:
        lines.insert(index, rng.choice((b"null\n", b"[]\n", b"{}\n", b"7\n", b"\xff\xfe\n", b"\n")))
    return b"".join(lines), f"{what} in line {index}"


def _safetensors(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    """The header of a model: its tensors, or what napari-emda says in it."""
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    if rng.random() < 0.7:
        text, what = _json(header["__metadata__"]["napari_emda"].encode(), rng)
        header["__metadata__"]["napari_emda"] = text.decode("utf-8", "replace")
    else:
        header, what = _value_changed(header, rng)
    text = json.dumps(header).encode("utf-8", "surrogatepass")
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data[8 + length :], what


def _places(values: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values, by keys and positions."""
    found = [here]
    if isinstance(values, dict):
        for key in values:
            found += _places(values[key], (*here, key))
    elif isinstance(values, list):
        for index in range(min(len(values), 4)):
            found += _places(values[index], (*here, index))
    return found


def _leaf(values: Any, rng: random.Random) -> Any:
    for key in rng.choice(_places(values)):
        values = values[key]
    return values


def _value_changed(values: Any, rng: random.Random) -> tuple[Any, str]:
    """A value changed, removed, or one more."""
    place = rng.choice(_places(values))
    new = rng.choice(NONSENSE)
    if not place:
        return new, f"all is {new!r}"[:60]
    parent = values
    for key in place[:-1]:
        parent = parent[key]
    key = place[-1]
    old = parent[key]
    what = rng.choice(("value", "value", "value", "scaled", "gone", "more"))
    if what == "scaled" and isinstance(old, int | float):
        parent[key] = old * rng.choice((-1, 2, 10, 1000, 10**9, 0.5))
    elif what == "gone":
        del parent[key]
    elif what == "more" and isinstance(parent, dict):
        parent[str(new)[:40]] = old
    elif what == "more":
        parent.append(new)
    else:
        parent[key] = new
    return values, f"{what} of {'.'.join(map(str, place))}: {new!r}"[:90]
