"""What a command says at its end."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape


def report(result: Any, lines: Sequence[str], out: Path, *, as_json: bool, quiet: bool) -> None:
    """The result as JSON on standard output; or, unless quiet, what was found and where the page is, for a reader."""
    if as_json:
        print(json.dumps(result, indent=1))
    elif not quiet:
        console = Console(stderr=True, soft_wrap=True)
        for line in lines:
            console.print(f"- {escape(line)}", highlight=False)
        console.print(f"open {escape(str(out / 'index.html'))}")
