"""Generates documentation pages from the code: methods, networks, settings, formats, keys.

    python docs/generate.py            # write the pages
    python docs/generate.py --check    # exit 1 if one of them is out of date

docs/notes/<name>.md adds what does not belong into a docstring (formula, when to use it), one file
per method, strategy or network.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from napari_emda._gui.annotate.keys import rows
from napari_emda._gui.objects.keys import rows as object_rows
from napari_emda.active_learning.strategy import strategies
from napari_emda.export.base import exporters
from napari_emda.io.reader import all_readers, readers
from napari_emda.io.writer import all_writers, writers
from napari_emda.methods.base import methods
from napari_emda.nn.network import networks
from napari_emda.registry import Registry
from napari_emda.settings.objects import SeparationSettings
from napari_emda.settings.prediction import PredictSettings
from napari_emda.settings.suggestion import QuerySettings
from napari_emda.settings.training import PROFILES, TrainSettings

DOCS = Path(__file__).parent
WARNING = "<!-- Written by docs/generate.py: change the code or docs/notes, then run it. -->\n\n"


def described(registry: Registry[Any]) -> list[type[Any]]:
    """The entries of a registry that are part of this package, without those of plugins."""
    return [
        registry[name]
        for name in registry.names()
        if registry[name].__module__.startswith("napari_emda.")
    ]


def docstring(entry: type[Any]) -> tuple[str, str]:
    """The first paragraph as one line, and the rest as Markdown."""
    first, _, rest = inspect.cleandoc(entry.__doc__ or "").partition("\n\n")
    return " ".join(first.split()), rest.replace("``", "`")


def notes(entry: type[Any]) -> str:
    path = DOCS / "notes" / f"{entry.name}.md"
    return path.read_text(encoding="utf-8").strip() if path.exists() else ""


def limits(field: dict[str, Any]) -> str:
    """The allowed values of a setting, from its JSON schema."""
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if field.get("type") == "boolean":
        return "`true`, `false`"
    low, high = (
        field.get("minimum", field.get("exclusiveMinimum")),
        field.get("maximum", field.get("exclusiveMaximum")),
    )
    if low is None:
        return "text"
    multiple = f", multiples of {field['multipleOf']}" if "multipleOf" in field else ""
    above, below = ("above ", "below ") if "exclusiveMinimum" in field else ("", "")
    return f"{above}{number(low)} … {below}{number(high)}{multiple}"


def number(value: float) -> str:
    """Whole numbers with spaces between thousands, others in their shortest form."""
    return f"{int(value):,}".replace(",", " ") if value == int(value) else f"{value:g}"


def table(model: type[Any], leave_out: tuple[str, ...] = ()) -> str:
    """A settings model as a Markdown table."""
    lines = ["| Setting | In the dock | Default | Limits | Meaning |", "|---|---|---|---|---|"]
    for name, field in model.model_json_schema().get("properties", {}).items():
        if name not in leave_out:
            default = json.dumps(field["default"])
            cells = (f"`{name}`", field["title"], f"`{default}`", limits(field))
            lines.append(f"| {' | '.join(cells)} | {field['description']} |")
    return "\n".join(lines)


def profiles(
    model: type[Any] = TrainSettings, changes: Mapping[str, Mapping[str, Any]] = PROFILES
) -> str:
    """A table of the settings that each profile changes."""
    keys = list(dict.fromkeys(key for values in changes.values() for key in values))
    defaults = model().model_dump()
    lines = [
        "| Setting | " + " | ".join(f"`{name}`" for name in PROFILES) + " |",
        "|---" * (1 + len(PROFILES)) + "|",
    ]
    for key in keys:
        cells = " | ".join(str(changes.get(name, {}).get(key, defaults[key])) for name in PROFILES)
        lines.append(f"| `{key}` | {cells} |")
    return "\n".join(lines)


def section(entry: type[Any], level: str = "##") -> str:
    """The section of one method or strategy."""
    sentence, rest = docstring(entry)
    parts = [f"{level} {entry.name}", f"**{sentence}**", rest, notes(entry)]
    if entry.Settings.model_fields:
        parts.append(table(entry.Settings))
    return "\n\n".join(part for part in parts if part)


def overview(entries: list[type[Any]], kind: str) -> str:
    """All methods or strategies in one table."""
    lines = [f"| {kind} | Summary | Requires |", "|---|---|---|"]
    for e in entries:
        required = e.requirements.in_words()
        lines.append(f"| [`{e.name}`](#{e.name}) | {docstring(e)[0]} | {required} |")
    return "\n".join(lines)


def methods_page() -> str:
    entries = described(methods)
    ranking = [section(entry, "###") for entry in described(strategies)]
    intro = (DOCS / "notes" / "_methods.md").read_text(encoding="utf-8").strip()
    between = (DOCS / "notes" / "_strategies.md").read_text(encoding="utf-8").strip()
    last = (DOCS / "notes" / "_references.md").read_text(encoding="utf-8").strip()
    parts = [
        "# Methods",
        overview(entries, "Method"),
        intro,
        *(section(e) for e in entries),
        between,
        overview(described(strategies), "Strategy"),
        *ranking,
        last,
    ]
    return WARNING + "\n\n".join(parts) + "\n"


def networks_page() -> str:
    entries = described(networks)
    overview = ["| Network | Summary |", "|---|---|"]
    overview += [f"| [`{e.name}`](#{e.name}) | {docstring(e)[0]} |" for e in entries]
    intro = (DOCS / "notes" / "_networks.md").read_text(encoding="utf-8").strip()
    parts = ["# Networks", "\n".join(overview), intro]
    for entry in entries:
        parts += [section(entry), "By profile:", profiles(entry.Settings, entry.profiles)]
    return WARNING + "\n\n".join(parts) + "\n"


def settings_page() -> str:
    text = (DOCS / "notes" / "_settings.md").read_text(encoding="utf-8").strip()
    tables = {
        "profiles": profiles(),
        "train": table(TrainSettings),
        "networks": "\n\n".join(
            f"### {e.name}\n\n{profiles(e.Settings, e.profiles)}\n\n{table(e.Settings)}"
            for e in described(networks)
        ),
        "predict": table(PredictSettings),
        "query": table(QuerySettings),
        "objects": table(SeparationSettings, ("connectivity",)),
        "methods": "\n\n".join(
            f"### {e.name}\n\n{table(e.Settings)}"
            for e in (*described(methods), *described(strategies))
            if e.Settings.model_fields
        ),
    }
    return WARNING + re.sub(r"\{\{(\w+)\}\}", lambda found: tables[found[1]], text) + "\n"


def endings(reader: type[Any]) -> str:
    """The endings of a format's files; readers of folders look at a path themselves."""
    folder = ["a folder"] if "takes" in vars(reader) else []
    return ", ".join([*(f"`{suffix}`" for suffix in reader.suffixes), *folder])


def formats_table() -> str:
    """What is read, what is written in the same format, and what of it needs what."""
    lines = [
        "| Format | Name ends in | Read | Write | Voxel size | Read in parts | Needs |",
        "|---|---|---|---|---|---|---|",
    ]
    ours = {entry.name for entry in described(readers)}
    for entry in all_readers():
        if entry.name not in ours:
            continue
        written = [
            exporter.name
            for exporter in described(exporters)
            if any(f in exporter.formats for f in entry.formats)
        ]
        cells = (
            ", ".join(entry.formats),
            endings(entry),
            docstring(entry)[0],
            ", ".join(written) or "no",
            entry.voxel_size or "none: type it",
            entry.lazily,
            "`[formats]`" * bool(entry.library) + f"; {entry.builds}" * bool(entry.builds),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def writers_table() -> str:
    """The formats of images that are written."""
    lines = [
        "| Format | Name ends in | What it holds | Several classes | Needs |",
        "|---|---|---|---|---|",
    ]
    for entry in all_writers():
        if entry not in described(writers):
            continue
        cells = (
            entry.format,
            ", ".join(f"`{suffix}`" for suffix in entry.suffixes),
            docstring(entry)[0],
            "yes" if entry.takes_channels else "one file each",
            "`[formats]`" if entry.library else "",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def files_page() -> str:
    text = (DOCS / "notes" / "_files.md").read_text(encoding="utf-8").strip()
    text = text.replace("{{formats}}", formats_table()).replace("{{writers}}", writers_table())
    return f"{WARNING}{text}\n"


def keys_table(keys: list[tuple[str, str]]) -> str:
    return "\n".join(
        ["| Key | Action |", "|---|---|", *(f"| `{key}` | {text} |" for key, text in keys)]
    )


def tutorial_page() -> str:
    """The tutorial with up-to-date tables of keys."""
    text = (DOCS / "tutorial.md").read_text(encoding="utf-8")
    for name, keys in (("keys", rows()), ("keys of objects", object_rows())):
        text = re.sub(
            rf"(<!-- {name} -->).*?(<!-- end)",
            rf"\1\n\n{keys_table(keys)}\n\n\2",
            text,
            flags=re.DOTALL,
        )
    return text


PAGES = {
    "files.md": files_page,
    "methods.md": methods_page,
    "networks.md": networks_page,
    "settings.md": settings_page,
    "tutorial.md": tutorial_page,
}


def out_of_date() -> list[str]:
    """Names of the pages that differ from what would be generated."""
    paths = {name: DOCS / name for name in PAGES}
    written = {
        name: path.read_text(encoding="utf-8") if path.exists() else ""
        for name, path in paths.items()
    }
    return [name for name, make in PAGES.items() if make() != written[name]]


def main() -> None:
    stale = out_of_date()
    if "--check" in sys.argv and stale:
        sys.exit(f"Out of date: {', '.join(stale)}. Run python docs/generate.py.")
    for name in stale:
        (DOCS / name).write_text(PAGES[name](), encoding="utf-8", newline="\n")
        print(name)


if __name__ == "__main__":
    main()
