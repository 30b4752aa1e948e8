"""The command `atlas`: a thin skin over the Python interface, each command in a file of `commands`."""

from __future__ import annotations

import errno
import os
import shlex
import signal
import sys
from types import FrameType

import typer
from rich.console import Console
from rich.markup import escape

from featviz.errors import UserError
from featviz.run.memory import keep_freed_memory

from .commands.ald import ald_command
from .commands.align import align_command
from .commands.build import build_command
from .commands.check import check_command
from .commands.classes import classes_command
from .commands.compare import compare_command
from .commands.dissect import dissect_command
from .commands.exemplars import exemplars_command
from .commands.explain import explain_command
from .commands.label import label_command
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
app.command("label")(label_command)
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
app.command("check")(check_command)


class Stopped(BaseException):
    """SIGINT or SIGTERM, unlike `KeyboardInterrupt` not one that Typer answers for itself."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def main() -> None:
    """Run the command: exit code 0 done, 1 failed (told in one paragraph), 2 wrong use of the command line.

    Stopped by SIGINT or SIGTERM, 128 and the signal's number; what goes on from there is told.
    """
    _raise_when_stopped()
    keep_freed_memory()
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    try:
        app(standalone_mode=True)
    except BaseException as error:
        stopped = _stopped_by(error)
        if stopped is not None:
            again = shlex.join(["atlas", *sys.argv[1:]])
            console.print(f"stopped by {stopped}; to go on from here: {escape(again)}")
            sys.exit(128 + stopped.number)
        if not isinstance(error, (UserError, OSError)) or "--debug" in sys.argv:
            raise
        console.print(f"[bold red]error:[/] {escape(_told(error))}")
        sys.exit(1)


def _stopped_by(error: BaseException | None) -> Stopped | None:
    """The signal that ended the command: a library's own code may answer it with an error of its own."""
    while error is not None and not isinstance(error, Stopped):
        error = error.__cause__ or error.__context__
    return error


def _raise_when_stopped() -> None:
    own = os.getpid()

    def stop(number: int, frame: FrameType | None) -> None:
        if os.getpid() != own:  # processes that decode images know how to end at this one
            raise KeyboardInterrupt
        raise Stopped(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)


def _told(error: Exception) -> str:
    if not isinstance(error, OSError):
        return str(error)
    where = f" ({error.filename})" if error.filename else ""
    advice = {
        errno.ENOSPC: " Make room, and the same command goes on with what is finished.",
        errno.EDQUOT: " Make room, and the same command goes on with what is finished.",
    }
    return f"{error.strerror or error}{where}.{advice.get(error.errno or 0, '')}"
