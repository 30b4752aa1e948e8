"""What the README and the pages of the site say can be done can be done."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import json
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import typer
from toys import noise_folder
from typer.testing import CliRunner

import atlas
import featviz
import search
from atlas.cli import app
from featviz.network.layers import OUTPUT, find_layers
from featviz.network.models import Model
from featviz.network.units import parse_units

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
OURS = {module.__name__: module for module in (atlas, featviz, search)}
COMMANDS: Any = typer.main.get_command(app)


def _hooks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_hooks", ROOT / "docs" / "hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["docs_hooks"] = module  # where its dataclass looks for its module
    spec.loader.exec_module(module)
    return module


HOOKS = _hooks()


def _blocks(text: str, *languages: str) -> list[str]:
    found = re.findall(r"^```(\w+)[^\n]*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return [block for language, block in found if language in languages]


def _command_lines(text: str) -> Iterator[list[str]]:
    """The words behind `atlas` of every command in a page's shell blocks."""
    for block in _blocks(text, "sh", "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            while "atlas" in words:
                words = words[words.index("atlas") + 1 :]
                end = next((place for place, word in enumerate(words) if word in ("&&", "||", ";", "|")), len(words))
                yield words[:end]


def _parsed(words: list[str]) -> dict[str, Any]:
    """The parameters of a command line, by the parser that the command has; raises what it raises."""
    assert words[0] in COMMANDS.commands, f"no command {words[0]!r}"
    found: dict[str, Any] = COMMANDS.commands[words[0]].make_context(words[0], list(words[1:])).params
    # Commands whose units may begin with a minus take what begins so for a unit.
    for value in found.values():
        for word in value if isinstance(value, (list, tuple)) else [value]:
            assert not str(word).startswith("--"), f"no option {word!r}"
    return found


def _generated() -> dict[str, str]:
    return {name: page() for name, page in HOOKS.GENERATED.items()}


@pytest.mark.parametrize("page", [*PAGES, "commands.md"], ids=lambda page: getattr(page, "name", page))
def test_every_command_line_parses_and_names_what_there_is(page: Path | str, lite0: Model) -> None:
    text = _generated()[page] if isinstance(page, str) else page.read_text(encoding="utf-8")
    problems = []
    for words in _command_lines(text):
        try:
            _check_names(_parsed(words), lite0)
        except Exception as error:  # each version of Typer raises usage errors of its own
            problems.append(f"atlas {shlex.join(words)}: {error}")
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_two_commands_of_a_page_write_the_same_folder(page: Path) -> None:
    """Who follows a page from top to bottom would be refused."""
    lines = dict.fromkeys(shlex.join(words) for words in _command_lines(page.read_text(encoding="utf-8")))
    outs = [str(out) for line in lines if (out := _parsed(shlex.split(line)).get("out")) is not None]
    assert len(outs) == len(set(outs)), sorted(outs)


def _check_names(found: dict[str, Any], model: Model) -> None:
    """Layers, units and classes of the embedded network are there; those of other networks would have to be had."""
    if found.get("model") != model.name:
        return
    layers = [*(found.get("layers") or []), found.get("layer"), found.get("other")]
    units = [*(found.get("units") or []), found.get("unit")]
    # Of the split of the final layer, `all` and `report` are no classes.
    classes = [word for word in found.get("classes") or [] if word not in ("all", "report")]
    classes += [found.get(name) for name in ("label", "a", "b", "source", "target")]
    for layer in filter(None, layers):
        assert layer == OUTPUT or ".npy" in layer or find_layers(model.network, layer)
    for unit in filter(None, units):
        assert ".npy" in unit or parse_units(unit, model)
    for label in filter(None, classes):
        model.class_index(label)


def _resolved(node: ast.expr, names: dict[str, Any]) -> Any:
    """What a dotted name stands for as far as that is known without running anything, else None."""
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.Attribute):
        owner = _resolved(node.value, names)
        if isinstance(owner, (ModuleType, type)):
            assert hasattr(owner, node.attr), f"{owner.__name__} has no {node.attr!r} (line {node.lineno})"
            return getattr(owner, node.attr)
    return None


def _imported(node: ast.Import | ast.ImportFrom, names: dict[str, Any]) -> None:
    for alias in node.names:
        home = node.module if isinstance(node, ast.ImportFrom) else alias.name
        assert home is not None
        if home.partition(".")[0] not in OURS:
            assert importlib.util.find_spec(home.partition(".")[0]), f"no package {home!r}"
            continue
        module = importlib.import_module(home)
        if isinstance(node, ast.Import):
            names[alias.asname or alias.name.partition(".")[0]] = (
                module if alias.asname else OURS[home.partition(".")[0]]
            )
        else:
            _import_name(module, alias, names)


def _import_name(module: ModuleType, alias: ast.alias, names: dict[str, Any]) -> None:
    if not hasattr(module, alias.name):
        importlib.import_module(f"{module.__name__}.{alias.name}")
    names[alias.asname or alias.name] = getattr(module, alias.name)


def _check_call(node: ast.Call, names: dict[str, Any]) -> None:
    function = _resolved(node.func, names)
    home = str(getattr(function, "__module__", "")).partition(".")[0]
    if not callable(function) or home not in OURS or any(isinstance(each, ast.Starred) for each in node.args):
        return
    keywords = {word.arg: None for word in node.keywords if word.arg is not None}
    inspect.signature(function).bind_partial(*node.args, **keywords)


def _check_python(block: str, names: dict[str, Any]) -> None:
    """Imports, dotted names of our modules and classes, and the arguments of our functions; `names` is added to."""
    tree = ast.parse(block)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            _imported(node, names)
    assigned = {
        node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    } | {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    for name in assigned & names.keys():
        del names[name]  # what it stands for now is known to who runs it
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            _resolved(node, names)
        elif isinstance(node, ast.Call):
            _check_call(node, names)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_python_block_compiles_and_its_names_and_arguments_exist(page: Path) -> None:
    names: dict[str, Any] = {}  # a page's blocks go on from each other
    for block in _blocks(page.read_text(encoding="utf-8"), "python"):
        _check_python(block, names)


def test_the_checks_find_what_is_not_there(lite0: Model) -> None:
    for words in ("biuld", "build --stepz 3", "build --steps many", "render a:1 --stepz 3", "compare blocks.6 tabby"):
        with pytest.raises(Exception, match=r"no command|[Nn]o (such )?option|valid integer|Missing"):
            _parsed(words.split())
    for words in ("build blocks.9", "render class:tabbby", "classes blocks.6 whalefish"):
        with pytest.raises(Exception, match="closest"):
            _check_names(_parsed(words.split()), lite0)
    for block in (
        "import featviz\nfeatviz.maximise",
        "from search import scann",
        "import atlas\natlas.build(stepz=3, klass=2)\natlas.load(a=1)",
    ):
        with pytest.raises((AssertionError, ImportError, TypeError)):
            _check_python(block, {})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_local_link_and_picture_is_there(page: Path) -> None:
    text = re.sub(r"^```.*?^```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    made = {(ROOT / "docs" / name).resolve() for name in HOOKS.GENERATED}
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"https?:", target):
            file = (page.parent / target.partition("#")[0]).resolve()
            assert file.exists() or file in made, f"{page.name}: {target}"


def test_the_page_of_commands_holds_every_command_and_option_of_the_parser() -> None:
    page = _generated()["commands.md"]
    for name, command in COMMANDS.commands.items():
        section = re.search(rf"^## atlas {name}$(.*?)(?=^## |\Z)", page, re.DOTALL | re.MULTILINE)
        assert section is not None, name
        shown = set(
            re.findall(r"(?<![\w-])--?[a-z][\w-]*", " ".join(re.findall(r"^\| `(.*?)`", section[1], re.MULTILINE)))
        )
        own = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        assert shown == {option for option in own if option.startswith("-")}, name


def test_the_reference_holds_every_name_that_the_packages_export() -> None:
    for name, package in OURS.items():
        modules = re.findall(r"^::: ([\w.]+)", (ROOT / "docs" / "api" / f"{name}.md").read_text(), re.MULTILINE)
        assert len(modules) == len(set(modules))
        here = {exported: _home(package, exported) for exported in package.__all__}
        missing = {exported: home for exported, home in here.items() if home not in modules}
        assert not missing


def _home(package: ModuleType, exported: str) -> str:
    """The module that a package's name comes from, as its __init__.py says."""
    tree = ast.parse(Path(str(package.__file__)).read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and any(alias.name == exported for alias in node.names):
            home = f"{package.__name__}.{node.module}"
            return f"{home}.{exported}" if inspect.ismodule(getattr(package, exported)) else home
    raise AssertionError(exported)


def test_the_search_gets_its_answers_on_a_page_opened_as_a_file(browser: Any, tmp_path: Path) -> None:
    """Browsers refuse to start a worker there: the script of the site stands in for it."""
    script = (ROOT / "docs" / "assets" / "iframe-worker.js").read_text(encoding="utf-8")
    (tmp_path / "work.js").write_text("addEventListener('message', (event) => postMessage({sum: event.data.a + 1}))")
    (tmp_path / "index.html").write_text(f"<script>{script}</script><body></body>")
    page = browser.new_page()
    page.goto((tmp_path / "index.html").as_uri())
    answer = page.evaluate(
        """() => new Promise((found) => {
            const worker = new Worker("work.js");
            worker.addEventListener("message", (event) => found(event.data.sum));
            worker.postMessage({ a: 41 });
            setTimeout(() => found(null), 20000);
        })"""
    )
    page.close()
    assert answer == 42


# How the README's commands begin that need no more than photographs, or noise for photographs, and what makes each a
# matter of seconds: of two equal options, the last counts. Left out are those that want right labels (`patch`, `ald
# report`), the weights of another network (`layers`, `build layer3`), shards or Ray, and two more that have tests of
# their own (`render --canvas maco`, `ald --image`), and `label`, which has, too.
_ATLAS = "--steps 2 --icon 16 --grid 3 --samples 200 --min-count 1 --reducer pca"
RUN = {
    "build --out demo-atlas": f"{_ATLAS} --no-effects",
    "render blocks.5:0-15": "--steps 2 --size 32",
    "render blocks.5:3": "--steps 2 --size 32",
    "exemplars blocks.3": "-k 2",
    "exemplars blocks.5:pca.npy": "-k 2",
    "unit": "--steps 2 --exemplars 2",
    "ald tabby": "--no-neurons --bootstrap 0",
    "build blocks.6": _ATLAS,
    "classes": f"{_ATLAS} --count 40",
    "compare": f"{_ATLAS} --count 40 --gradient 3",
    "explain": "--method saliency,gradcam --no-trust",
    "dissect": "",
}


@pytest.mark.slow
def test_the_commands_of_the_readme_run_one_after_the_other_as_they_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    noise_folder(Path("my-photos"), 6)
    shutil.copy("my-photos/000.png", "cat.jpg")
    np.save("pca.npy", np.eye(4, 192, dtype=np.float32))
    run = []
    for words in _command_lines((ROOT / "README.md").read_text(encoding="utf-8")):
        line = shlex.join(words)
        start = next((start for start in RUN if line.startswith(start)), None)
        if start is None:
            continue
        done = CliRunner().invoke(app, [*words, *shlex.split(RUN[start]), "--quiet"])
        assert done.exit_code == 0, f"atlas {line}: {done.output}{done.exception!r}"
        out = Path(_parsed(words)["out"])
        assert "</html>" in (out / "index.html").read_text(encoding="utf-8")
        assert json.loads((out / "manifest.json").read_text(encoding="utf-8"))["command"] == words[0]
        run.append(start)
    assert sorted(run) == sorted(RUN)
