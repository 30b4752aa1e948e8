"""The command `atlas`: a thin skin over the Python interface, each command in a file of `commands`."""

from __future__ import annotations

import sys

import typer
from rich.console import Console
from rich.markup import escape

from featviz.errors import UserError

from .commands.ald import ald_command
from .commands.align import align_command
from .commands.build import build_command
from .commands.classes import classes_command
from .commands.compare import compare_command
from .commands.dissect import dissect_command
from .commands.exemplars import exemplars_command
from .commands.explain import explain_command
from .commands.models import layers_command, models_command
from .commands.open import open_command
from .commands.patch import patch_command
from .commands.render import render_command
from .commands.unit import unit_command

app = typer.Typer(
    help="See what a vision network has learned.", no_args_is_help=True, rich_markup_mode="rich", add_completion=False
)
# A unit may begin with a minus, which is otherwise the sign of an option.
_MINUS = {"ignore_unknown_options": True}

app.command("build")(build_command)
app.command("classes")(classes_command)
app.command("compare")(compare_command)
app.command("align")(align_command)
app.command("patch")(patch_command)
app.command("ald")(ald_command)
app.command("render", context_settings=_MINUS)(render_command)
app.command("exemplars")(exemplars_command)
app.command("unit", context_settings=_MINUS)(unit_command)
app.command("explain")(explain_command)
app.command("dissect")(dissect_command)
app.command("open")(open_command)
app.command("models")(models_command)
app.command("layers")(layers_command)


def main() -> None:
    """Run the command: exit code 0 done, 1 failed (told in one paragraph), 2 wrong use of the command line."""
    debug = "--debug" in sys.argv
    try:
        app(standalone_mode=True)
    except UserError as error:
        if debug:
            raise
        Console(stderr=True, soft_wrap=True).print(f"[bold red]error:[/] {escape(str(error))}", highlight=False)
        sys.exit(1)
    except KeyboardInterrupt:
        Console(stderr=True).print("stopped; the same command goes on from here")
        sys.exit(130)
