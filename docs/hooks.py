"""Pages that the site takes from the code when it is built: the commands, the map of files, the changelog."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args, get_origin

from typer.models import ArgumentInfo, OptionInfo

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

ROOT = Path(__file__).parent.parent
PACKAGES = ("featviz", "search", "atlas")
_KINDS = {str: "text", int: "integer", float: "number", Path: "path", bool: ""}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    from mkdocs.structure.files import File

    for name, page in GENERATED.items():
        files.append(File.generated(config, name, content=page()))
    return files


@dataclass(frozen=True)
class Parameter:
    """One argument or option of a command, as the command's function declares it."""

    names: str
    kind: str
    default: str
    help: str
    is_option: bool


def commands_page() -> str:
    """Every command with what its function says of it, its arguments and its options."""
    from atlas.cli import app

    lines = [
        "# Commands",
        "`atlas COMMAND --help` says the same in a terminal. Exit code 0: done; 1: failed, told in one paragraph "
        "(`--debug` shows the traceback); 2: wrong use of the command line; 130 and 143: stopped (Ctrl-C, SIGTERM), "
        "with the command that goes on.",
    ]
    for command in app.registered_commands:
        assert command.callback is not None
        lines += _command(str(command.name), command.callback)
    return "\n\n".join(lines) + "\n"


def parameters(callback: Callable[..., Any]) -> list[Parameter]:
    """What the function of a command declares, in order."""
    found = []
    for name, parameter in inspect.signature(callback, eval_str=True).parameters.items():
        assert get_origin(parameter.annotation) is Annotated, name
        kind, declared = get_args(parameter.annotation)[:2]
        assert isinstance(declared, (ArgumentInfo, OptionInfo)), name
        found.append(
            Parameter(
                _names(name, kind, declared),
                _kind(kind),
                _default(parameter.default, kind),
                _cell(declared.help or ""),
                isinstance(declared, OptionInfo),
            )
        )
    return found


def _names(name: str, kind: Any, declared: ArgumentInfo | OptionInfo) -> str:
    if isinstance(declared, ArgumentInfo):
        return str(declared.metavar or name.upper())
    # Inside Annotated, what Typer's own signature calls the default is the first of the names.
    first = [] if declared.default is ... else [declared.default]
    if names := [*first, *(declared.param_decls or [])]:
        return ", ".join(names)
    plain = name.replace("_", "-")
    return f"--{plain} / --no-{plain}" if kind is bool else f"--{plain}"


def _kind(kind: Any) -> str:
    """The type in words; "several" where it may be given more than once."""
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(_kind(part) for part in get_args(kind) if part is not NoneType)
    if get_origin(kind) is list:
        return f"{_kind(get_args(kind)[0])}, several"
    return _KINDS.get(kind, getattr(kind, "__name__", str(kind)))


def _default(default: Any, kind: Any) -> str:
    if default is inspect.Parameter.empty:
        return "required"
    if default is None or default == "" or (kind is bool and not default):
        return ""
    return "on" if kind is bool else f"`{default}`"


def _cell(text: str) -> str:
    """Text as a table's cell shows it, sign for sign."""
    parts = text.replace("|", "\\|").split("`")  # every second one is code, where the other signs mean themselves
    return "`".join(re.sub(r"([*<])", r"\\\1", part) if number % 2 == 0 else part for number, part in enumerate(parts))


def _command(name: str, callback: Callable[..., Any]) -> list[str]:
    about, _, example = inspect.cleandoc(callback.__doc__ or "").partition("Example: ")
    declared = parameters(callback)
    arguments = [each for each in declared if not each.is_option]
    usage = [f"[{each.names}]" if each.default != "required" else each.names for each in arguments]
    usage = [f"{word}..." if each.kind.endswith("several") else word for word, each in zip(usage, arguments)]
    lines = [f"## atlas {name}", about.strip(), _fenced(" ".join(["atlas", name, *usage, "[OPTIONS]"]), "text")]
    lines += [_fenced("\n".join(" ".join(example.split()).split("; ")), "sh")] if example else []
    return [
        *lines,
        _table(("argument", "type", "default", "what"), [_row(each) for each in arguments]),
        _table(("option", "type", "default", "what"), [_row(each) for each in declared if each.is_option]),
    ]


def _row(each: Parameter) -> tuple[str, ...]:
    return (f"`{each.names}`", each.kind, each.default, each.help)


def _fenced(text: str, language: str) -> str:
    return f"```{language}\n{text}\n```"


def _table(heading: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    table = [heading, ("---",) * len(heading), *rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in table) if len(table) > 2 else ""


def files_page() -> str:
    """Every file of the three packages with the first sentence that it says of itself."""
    lines = ["# Map of files", "Each file's own first line, package by package; imports point left only."]
    for package in PACKAGES:
        for folder in sorted({path.parent for path in (ROOT / package).rglob("*.py")}):
            files = sorted(path for path in folder.glob("*.py") if path.name != "__init__.py")
            about = _first_line(folder / "__init__.py")
            rows = [(f"`{path.name}`", _cell(_first_line(path))) for path in files]
            name = folder.relative_to(ROOT).as_posix()
            lines += [f"## {name}", about, _table(("file", "what"), rows)]
    return "\n\n".join(lines) + "\n"


def _first_line(file: Path) -> str:
    return (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").partition("\n")[0]


def changelog_page() -> str:
    """CHANGELOG.md as it stands in the repository."""
    return (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


GENERATED: dict[str, Callable[[], str]] = {
    "commands.md": commands_page,
    "files.md": files_page,
    "changelog.md": changelog_page,
}
