"""What docs/security.md promises: no code from data, no network unless a name asks for it, pages that fetch nothing."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bad_corpus import encoded
from toys import toy_model

import atlas
import featviz
import search
from atlas.exemplars import find_exemplars
from atlas.explorer.page import document
from atlas.explorer.report_page import Section, report_page
from featviz.errors import UserError
from featviz.network.models import load_model
from featviz.network.units import parse_units
from search.images.decode import UndecodableError, open_upright

ROOTS = [Path(str(module.__file__)).parent for module in (featviz, search, atlas)]
SOURCES = sorted(file for root in ROOTS for file in root.rglob("*.py"))
# Modules that run or load code that comes as data.
REFUSED_MODULES = set("pickle cPickle _pickle dill cloudpickle joblib shelve marshal yaml jsonpickle".split())
# Calls that do; and those that do unless an argument forbids it.
REFUSED_CALLS = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "yaml.load", "torch.hub.load"}
NEEDED = {"torch.load": ("weights_only", "True"), "np.load": ("allow_pickle", "False")}


def _calls(source: str) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def _dangers(source: str) -> list[str]:
    """What in a source could run code that comes as data, or a program by way of a shell."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.split(".")[0] in REFUSED_MODULES]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in REFUSED_MODULES:
            found.append(str(node.module))
    for name, call in _calls(source):
        arguments = {each.arg: each.value for each in call.keywords}
        if name in REFUSED_CALLS:
            found.append(name)
        if "shell" in arguments and not (isinstance(arguments["shell"], ast.Constant) and not arguments["shell"].value):
            found.append(f"{name} with a shell")
        if "allow_pickle" in arguments and ast.unparse(arguments["allow_pickle"]) != "False":
            found.append(f"{name} with pickle")
        if name in NEEDED:
            key, value = NEEDED[name]
            if key not in arguments or ast.unparse(arguments[key]) != value:
                found.append(f"{name} without {key}={value}")
    return found


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_no_source_runs_code_that_comes_as_data(file: Path) -> None:
    assert _dangers(file.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "danger",
    ["import pickle", "from pickle import loads", "import yaml", "eval('1')", "exec(text)", "torch.load(file)",
     "torch.load(file, weights_only=False)", "np.load(file)", "np.load(file, allow_pickle=True)",
     "np.savez(file, allow_pickle=True)", "subprocess.run(text, shell=True)", "subprocess.run(text, shell=flag)",
     "os.system(text)"],
)  # fmt: skip
def test_the_search_for_dangers_finds_each(danger: str) -> None:
    assert _dangers(f"def work():\n    {danger}\n")


def test_no_program_is_started_but_by_the_libraries() -> None:
    for file in SOURCES:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
        names += [str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        # Of the cluster that the user names, it asks whether anyone listens there.
        allowed = {"socket"} if file.name == "ray_engine.py" else set()
        assert not {"subprocess", "socket", "urllib.request", "http.client", "requests"} & set(names) - allowed, file


def test_weights_that_would_run_code_are_refused_and_do_not(tmp_path: Path) -> None:
    class Harm:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "harmed",))

    torch.save({"weight": Harm()}, tmp_path / "weights.pth")
    with pytest.raises(UserError, match="does not hold weights"):
        load_model("efficientnet_lite0", weights=tmp_path / "weights.pth", device="cpu")
    assert not (tmp_path / "harmed").exists()


# Pages

NETWORK = re.compile(r"(?:https?:|wss?:|ftp:)?//[\w.-]+\.\w{2,}|\*|\bhttps?:|\bwss?:")


def _policy(page: str) -> dict[str, str]:
    """The directives of a page's one Content-Security-Policy, which stands before all that it governs."""
    found = re.findall(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">', page)
    assert len(found) == 1
    before = page[: page.index("Content-Security-Policy")]
    assert not re.search(r"<(script|style|link|img|svg|iframe|object)\b", before)
    parts = (part.strip().partition(" ") for part in found[0].split(";"))
    return {name: values for name, _, values in parts if name}


def _check(page: str) -> None:
    policy = _policy(page)
    assert policy["default-src"] == "'none'"
    for name in ("connect-src", "frame-src", "object-src", "worker-src", "font-src", "media-src"):
        assert policy.get(name, "'none'") == "'none'", name
    assert set(policy.get("img-src", "").split()) <= {"data:", "blob:"}
    scripts = policy.get("script-src", "'none'").split()
    assert "'unsafe-inline'" not in scripts
    assert "'unsafe-eval'" not in scripts
    assert not NETWORK.search(" ".join(policy.values()))


SMALL: dict[str, Any] = {"icon": 16, "steps": 1, "samples": 96, "per_image": 4, "min_count": 1, "reducer": "pca"}


@pytest.mark.parametrize("grid", [(2,), (1, 2, 3, 4)])
def test_every_page_of_an_atlas_forbids_itself_the_network(
    tmp_path: Path, noise_images: Path, grid: tuple[int, ...]
) -> None:
    atlas.build(toy_model(), "4", noise_images, out=tmp_path / "out", workers=0, grid=grid, **SMALL)
    pages = sorted((tmp_path / "out").rglob("*.html"))
    assert pages
    for page in pages:
        _check(page.read_text(encoding="utf-8"))


def test_every_page_of_exemplars_forbids_itself_the_network(tmp_path: Path, noise_images: Path) -> None:
    find_exemplars(toy_model(), ["3"], images=noise_images, out=tmp_path / "out", workers=0)
    _check((tmp_path / "out" / "index.html").read_text(encoding="utf-8"))


def test_a_page_with_a_script_runs_no_other_and_fetches_nothing() -> None:
    plain = report_page(title="a", lines=["b"], sections=[Section("c", table=[{"d": 1}])])
    moving = report_page(title="a", lines=["b"], sections=[Section("c", svg='<svg class="tree"></svg>')])
    for page in (plain, moving, document("<script>", "")):
        _check(page)
    assert "script-src" not in _policy(plain)
    assert re.fullmatch(r"'sha256-[\w+/=]+'", _policy(moving)["script-src"])


def test_pages_come_from_nowhere_else() -> None:
    """Whatever else writes a page goes through one of the two above, so its policy is theirs."""
    # As bytes it is what a file that was given may begin with.
    written = re.compile(r'(?<!b")(<!doctype|<html)', re.IGNORECASE)
    makers = {file.name for file in SOURCES if written.search(file.read_text("utf-8"))}
    assert makers == {"page.py", "viewer_page.py"}


def test_the_viewer_asks_for_nothing_elsewhere() -> None:
    viewer = Path(str(atlas.__file__)).parent / "explorer"
    for file in [*viewer.rglob("*.js"), *viewer.rglob("*.css")]:
        text = file.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        found = re.findall(r"https?:|//cdn|XMLHttpRequest|WebSocket|fetch\(|sendBeacon|importScripts|eval\(", text)
        assert not found, file


# Network

# Runs a program in which nothing may look up an address or connect to one; forked processes inherit this.
ALONE = """
import os, sys
def watch(event, found):
    away = event == "socket.connect" and not isinstance(found[1], (str, bytes))
    if away or event in ("socket.getaddrinfo", "socket.gethostbyname", "urllib.Request", "ftplib.connect"):
        os.write(log, f"{event} {found!r}\\n".encode())
        raise OSError("the network is out of bounds")
log = os.open(sys.argv.pop(1), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
sys.addaudithook(watch)
"""
COMMAND = "from atlas.cli import main\nmain()"


def _alone(tmp_path: Path, program: str, *arguments: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """What a program did, and what it wanted from the network."""
    log = tmp_path / "network.log"
    root = str(Path(__file__).parents[2])
    ran = subprocess.run(
        [sys.executable, "-c", ALONE + program, str(log), *arguments],
        capture_output=True, text=True, timeout=200, env={**os.environ, "PYTHONPATH": root, "HOME": str(tmp_path)},
    )  # fmt: skip
    return ran, log.read_text().splitlines()


@pytest.mark.slow
def test_an_atlas_of_the_embedded_network_and_photographs_needs_no_network(tmp_path: Path) -> None:
    out = tmp_path / "out"
    ran, wanted = _alone(
        tmp_path, COMMAND, "build", "--images", "photos", "--out", str(out), "--grid", "1", "--icon", "32",
        "--steps", "1", "--samples", "60", "--per-image", "2", "--min-count", "1", "--reducer", "pca", "--no-effects",
        "--workers", "1", "--device", "cpu", "--json", "--quiet",
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert wanted == []
    assert json.loads(ran.stdout)["model"] == "efficientnet_lite0"
    assert (out / "index.html").is_file()


@pytest.mark.parametrize(
    "program",
    [
        "import socket\nsocket.create_connection(('127.0.0.1', 9))",
        "import urllib.request as r\nr.urlopen('http://a.b')",
    ],
)
def test_what_wants_the_network_is_caught(tmp_path: Path, program: str) -> None:
    ran, wanted = _alone(tmp_path, program)
    assert ran.returncode != 0
    assert wanted


# Paths


def test_a_unit_cannot_have_a_pickled_array_loaded(tmp_path: Path) -> None:
    class Harm:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "harmed",))

    np.save(tmp_path / "d.npy", np.array([Harm()], dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match=r"no \.npy file of directions"):
        parse_units(f"3:{tmp_path / 'd.npy'}#0", toy_model())
    assert not (tmp_path / "harmed").exists()


def test_what_looks_like_an_image_starts_no_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow hands EPS to Ghostscript: here one that tells on itself."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "gs"
    program.write_text(f"#!/bin/sh\ntouch '{tmp_path}/started'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    (tmp_path / "a.png").write_bytes(encoded("EPS"))
    with pytest.raises(UndecodableError, match="cannot identify"):
        open_upright(tmp_path / "a.png")
    assert not (tmp_path / "started").exists()
