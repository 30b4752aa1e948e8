"""What a command says of the images it was given, and at its end."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from featviz.network.models import Model
from search.images.images import Images, open_images
from search.images.labels import note_unknown_classes


def report(result: Any, lines: Sequence[str], out: Path, *, as_json: bool, quiet: bool) -> None:
    """The result as JSON on standard output; or, unless quiet, what was found and where the page is, for a reader."""
    if as_json:
        print(json.dumps(result, indent=1))
    elif not quiet:
        console = Console(stderr=True, soft_wrap=True)
        for line in lines:
            console.print(f"- {escape(line)}", highlight=False)
        console.print(f"open {escape(shlex.quote(str(out / 'index.html')))}")


def opened(images: str, model: Model, *, quiet: bool) -> Images:
    """The images that `--images` names; what is odd about them is told before any work begins."""
    found = note_unknown_classes(open_images(images, model.preprocess), len(model.labels))
    console = Console(stderr=True, soft_wrap=True)
    for note in () if quiet else found.notes:
        console.print(f"note: {escape(note)}", highlight=False)
    return found
