"""Generated pages are up to date, links resolve, and the pages list what there is."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tomllib

import pytest

from tests.docs.pages import DOCS, ROOT

PAGES = [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")] + sorted(
    DOCS.glob("*.md")
)


@pytest.fixture(scope="module")
def generate():
    """The script that writes pages."""
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "name", ["methods.md", "networks.md", "settings.md", "tutorial.md", "files.md"]
)
def test_generated_page_is_up_to_date(generate, name):
    text = (DOCS / name).read_text(encoding="utf-8")
    assert generate.PAGES[name]() == text, (
        f"docs/{name} is out of date: run python docs/generate.py"
    )


def test_every_method_strategy_and_network_has_a_note(generate):
    for registry in (generate.methods, generate.strategies, generate.networks):
        for entry in generate.described(registry):
            assert "**When to use it.**" in generate.notes(entry), (
                f"write docs/notes/{entry.name}.md"
            )


def anchors(text):
    """Of the headings, as mkdocs makes them."""
    headings = re.findall(
        r"^#+ (.+)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE
    )
    return {
        re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower())
        for heading in headings
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), f"{page.name} links to {target}"
        if anchor:
            assert anchor in anchors(file.read_text(encoding="utf-8")), (
                f"{page.name} links to {target}"
            )


def test_architecture_names_every_package():
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    package = ROOT / "src" / "napari_emda"
    packages = {path.parent.name for path in package.rglob("__init__.py")} - {"napari_emda"}
    modules = {path.name for path in package.glob("*.py") if not path.name.startswith("__")}
    assert not {name for name in packages if f"{name}/" not in text}
    assert not {name for name in modules if name not in text}


def test_architecture_has_the_layers_that_are_checked():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = settings["tool"]["importlinter"]["contracts"][0]["layers"]
    assert "```text\n" + "\n".join(layers) + "\n```" in (DOCS / "architecture.md").read_text(
        encoding="utf-8"
    )


def test_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("material", reason="comes with the extra docs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "tutorial" / "index.html").exists()
