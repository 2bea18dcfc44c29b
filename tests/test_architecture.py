"""The rules of the house that no other tool checks (the imports are checked by `make lint`)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from flask import Flask

from config import Config
from shop import create_app
from shop.cli import settings_table

ROOT = Path(__file__).parent.parent
SOURCES = sorted(
    path for path in [*ROOT.glob("shop/**/*.py"), *ROOT.glob("*.py"), *ROOT.glob("bench/**/*.py")]
)
#: The same file name means the same thing in each feature, and there is no name for the rest.
FORBIDDEN_NAMES = {"utils", "helpers", "common", "core", "manager", "service", "misc", "base_model"}
LONGEST_FUNCTION = 40
LONGEST_FILE = 400


@pytest.fixture(scope="module")
def plain_app(tmp_path_factory: pytest.TempPathFactory) -> Flask:
    """The app with the settings that the committed documents are made with."""
    return create_app(Config(var=tmp_path_factory.mktemp("var")))


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring."""
    docstring = ast.get_docstring(function, clean=False) or ""
    return (function.end_lineno or 0) - function.lineno - docstring.count("\n")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_functions_and_files_stay_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LONGEST_FILE
    long = [f"{f.name}: {length(f)}" for f in functions(path) if length(f) > LONGEST_FUNCTION]
    assert long == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_are_named_after_what_they_hold_and_say_it(path: Path) -> None:
    assert path.stem not in FORBIDDEN_NAMES
    if path.read_text().strip():
        assert ast.get_docstring(ast.parse(path.read_text())), "a module says what it is for"


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("shop/*/views.py")), ids=lambda path: path.parent.name
)
def test_views_catch_nothing(path: Path) -> None:
    tree = ast.parse(path.read_text())

    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Try)]


@pytest.mark.parametrize("name", ["operations", "queries", "models", "jobs"])
def test_only_doors_open_transactions(name: str) -> None:
    for path in ROOT.glob(f"shop/*/{name}.py"):
        text = path.read_text()
        assert "transactional" not in text, path
        assert ".commit(" not in text, path


def test_the_committed_openapi_document_is_fresh(plain_app: Flask) -> None:
    served = plain_app.test_client().get("/openapi.json").get_json()

    committed = orjson.loads((ROOT / "docs" / "openapi.json").read_bytes())
    assert committed == served, "run `make openapi`"


def test_the_table_of_settings_in_the_readme_is_fresh() -> None:
    assert settings_table() in (ROOT / "README.md").read_text(), "run `make openapi`"


def test_every_command_of_the_makefile_says_what_it_does() -> None:
    targets = [
        line
        for line in (ROOT / "Makefile").read_text().splitlines()
        if line[:1].isalpha() and ":" in line and "=" not in line
    ]

    assert targets
    assert all("## " in line for line in targets)
