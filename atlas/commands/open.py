"""The command `atlas open`."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from featviz.errors import UserError

from ..explorer import join_books, read_book, viewer_page
from . import options


def open_command(
    folders: Annotated[list[Path], typer.Argument(help="Folders that commands of this program wrote.")],
    together: Annotated[
        Path, typer.Option("--together", help="Of several folders: the page of all their maps that is written.")
    ] = Path("together.html"),
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Open a folder's page in the browser; of several atlases, one page with all of their maps.

    Example: atlas open atlas-blocks.3 atlas-blocks.5 --together both.html
    """
    if len(folders) > 1 and together.suffix not in (".html", ".htm"):
        raise UserError(f"--together is the page that is written, a .html file; got {str(together)!r}.")
    if len(folders) > 1 and not together.resolve().parent.is_dir():
        raise UserError(f"--together {str(together)!r}: there is no such folder.")
    pages = [_page(folder) for folder in folders]
    page = pages[0]
    if len(pages) > 1:
        book = join_books(
            [read_book(each) for each in pages], title=", ".join(page.resolve().parent.name for page in pages)
        )
        together.write_text(viewer_page(book), encoding="utf-8")
        page = together
    if not quiet:
        Console(stderr=True).print(f"opening {escape(str(page))}")
    if not webbrowser.open(page.resolve().as_uri()):
        raise UserError(f"no browser was found here; open {page.resolve()!s} in one.")


def _page(folder: Path) -> Path:
    """The page of a folder, which may be named itself."""
    page = folder / "index.html" if folder.is_dir() else folder
    if not page.exists():
        there = "what writes it has not finished" if folder.is_dir() else "there is no such folder"
        raise UserError(f"{str(folder)!r} holds no page (no index.html): {there}.")
    return page
