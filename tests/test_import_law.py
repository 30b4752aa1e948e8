"""Imports point left: featviz <- search <- atlas, and within a package from room to room."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import atlas
import featviz
import search
from featviz.moved import MOVED

MAY_IMPORT = {"featviz": {"featviz"}, "search": {"featviz", "search"}, "atlas": {"featviz", "search", "atlas"}}
# Of each package that has rooms, from left to right; what lies in none of them is to the left of all.
ROOMS = {
    "featviz": ("run", "network", "draw", "explain"),
    "search": ("images", "scan", "naming", "exemplars", "card"),
}
FOLDERS = {module.__name__: Path(str(module.__file__)).parent for module in (featviz, search, atlas)}


# Libraries of which each takes from a third of a second to five, and most commands need few.
HEAVY = ("datasets", "lucent", "matplotlib.figure", "open_clip", "pandas", "ray", "scipy", "sklearn", "timm",
         "torchcam", "torchvision", "umap", "zarr")  # fmt: skip


def test_commands_start_without_libraries_that_take_long() -> None:
    program = f"import atlas.cli, sys; print([name for name in {HEAVY} if name in sys.modules])"
    root = FOLDERS["atlas"].parent
    ran = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_a_package_imports_nothing_to_its_right(package: str) -> None:
    files = sorted(FOLDERS[package].rglob("*.py"))
    assert files
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and node.level == 0 else []
            ours = {name.split(".")[0] for name in names} & set(MAY_IMPORT)
            assert ours <= MAY_IMPORT[package], f"{file.name} imports {ours - MAY_IMPORT[package]}"


@pytest.mark.parametrize("package", ROOMS)
def test_a_room_imports_nothing_to_its_right(package: str) -> None:
    order = ("", *ROOMS[package])
    rooms = {entry.name for entry in FOLDERS[package].iterdir() if (entry / "__init__.py").is_file()}
    assert rooms == set(ROOMS[package])
    for file in sorted(FOLDERS[package].rglob("*.py")):
        place = file.relative_to(FOLDERS[package]).parts[:-1]
        if not place and file.name == "__init__.py":
            continue  # says what the package offers
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.level:
                whole = (*place[: len(place) - node.level + 1], *(node.module or "").split("."))
                room = whole[0] if whole[0] in rooms else ""
                own = place[0] if place else ""
                assert order.index(room) <= order.index(own), f"{own}/{file.name} imports from {room}"


@pytest.mark.parametrize("name", MOVED)
def test_what_has_moved_is_there_by_its_old_name_and_says_where_it_is_now(name: str) -> None:
    """A room may be called like a file in it, such as `search.scan`: then it has what that file has."""
    new = importlib.import_module(MOVED[name])
    public = [each for each in vars(new) if not each.startswith("_")]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        sys.modules.pop(name, None) if sys.modules.get(name) is new else None
        old = importlib.import_module(name)
        found = [getattr(old, each) for each in public]
    assert all(each is getattr(new, own) for each, own in zip(found, public, strict=True))
    assert any(name in str(each.message) and MOVED[name] in str(each.message) for each in told)
    assert {each.category for each in told} == {DeprecationWarning}
