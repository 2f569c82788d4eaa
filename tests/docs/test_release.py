"""What a release states in several files is the same in all of them."""

from __future__ import annotations

import re
import tomllib

import pytest
import yaml

import napari_emda
from tests.docs.pages import ROOT

# Where conda-forge has another name than the index.
CONDA_NAMES = {"torch": "pytorch"}
FORMS = sorted((ROOT / ".github").rglob("*.yml"))


@pytest.fixture(scope="module")
def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def load(name):
    return yaml.safe_load((ROOT / name).read_text("utf-8"))


def test_the_citation_is_of_this_version(project):
    citation = load("CITATION.cff")
    assert citation["version"] == napari_emda.__version__
    assert citation["license"] == project["license"]
    assert citation["authors"] == project["authors"]
    assert citation["title"].endswith(project["description"][1:])


def test_the_conda_recipe_needs_what_the_package_needs(project):
    recipe = load("conda/recipe.yaml")
    assert recipe["context"]["version"] == napari_emda.__version__
    assert f">={recipe['context']['python_min']}" == project["requires-python"]
    wanted = set()
    for dependency in project["dependencies"]:
        name, limits = re.fullmatch(r"([\w-]+)(.*)", dependency).groups()
        wanted.add(f"{CONDA_NAMES.get(name, name)} {limits}")
    python, *found = recipe["requirements"]["run"]
    assert python.startswith("python ")
    assert set(found) == wanted
    assert recipe["build"]["python"]["entry_points"] == [
        f"{name} = {target}" for name, target in project["scripts"].items()
    ]


def test_an_archive_of_the_source_holds_what_its_tests_read():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"]
    patterns = settings["build"]["targets"]["sdist"]["include"]
    for name in ("docs", "tests", "benchmarks", "tools", "conda", "Makefile", ".github"):
        assert f"/{name}" in patterns
    for suffix in (".md", ".txt", ".yml", ".cff"):
        assert f"/*{suffix}" in patterns


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.name)
def test_forms_and_workflows_are_whole(path):
    values = yaml.safe_load(path.read_text("utf-8"))
    if path.parent.name == "workflows":
        # YAML takes `on` for a truth value.
        assert {"name", True, "permissions", "jobs"} <= values.keys()
        for job in values["jobs"].values():
            assert job["runs-on"]
            assert job["steps"]
    elif path.parent.name == "ISSUE_TEMPLATE" and path.name != "config.yml":
        assert {"name", "description", "body"} <= values.keys()
        ids = [part["id"] for part in values["body"]]
        assert len(set(ids)) == len(ids) > 1
