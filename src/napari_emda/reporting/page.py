"""The report as one HTML page, which loads nothing and runs nothing."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from napari_emda.data.names import in_print
from napari_emda.io.atomic import write_text
from napari_emda.project.project import Project
from napari_emda.reporting.contents import Contents, contents_of
from napari_emda.reporting.plots import line_plot


def write_report(project: Project, path: Path, *, overwrite: bool = False) -> Contents:
    """Write the report of a project.

    Args:
        project: opened.
        path: of the page, which ends in .html.
        overwrite: replace an older file.

    Returns:
        What it says.

    Raises:
        DataError: it cannot be written there.
    """
    path = project.claim(path, (".html",), overwrite=overwrite)
    contents = contents_of(project)
    write_text(path, page(contents))
    return contents


def page(contents: Contents) -> str:
    """The text of the page.

    Everything from the project is escaped: names of classes, volumes and files may be anybody's. So
    are characters that are not shown, which turn the text around them or are no UTF-8.
    """
    environment = Environment(
        loader=PackageLoader("napari_emda.reporting", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template("report.html.jinja")
    return in_print(template.render(report=contents, line_plot=line_plot)) + "\n"
