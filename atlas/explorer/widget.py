"""The explorer as a notebook's widget, its view and its cell known to Python."""

from __future__ import annotations

from typing import Any

from featviz.errors import UserError

from .book import Book
from .viewer_page import viewer_script, viewer_style

_HEIGHT = "\n.aa { height: 720px; }"


def book_widget(book: Book) -> Any:
    """An anywidget of the book: `view`, the state as the page's address would say it, and `selected_cell`, its key.

    Both are synced: read them, observe them, set `view` to move. Raises `UserError` without the extra `notebook`.
    """
    try:
        import anywidget
        import traitlets
    except ImportError:
        raise UserError("the widget needs anywidget: pip install 'activation-atlas[notebook]'.") from None

    class ExplorerWidget(anywidget.AnyWidget):
        _esm = viewer_script() + "\nexport default { render };\n"
        _css = viewer_style() + _HEIGHT
        manifest = traitlets.Dict().tag(sync=True)
        blocks = traitlets.Dict().tag(sync=True)
        view = traitlets.Unicode("").tag(sync=True)
        selected_cell = traitlets.Unicode(None, allow_none=True).tag(sync=True)

    return ExplorerWidget(manifest=book.manifest, blocks=book.blocks)
