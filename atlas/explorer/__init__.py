"""The explorer: atlases and reports as pages that open by double-click."""

from .book import Book, Report, make_book
from .join import join_books
from .leaf import Leaf
from .names import add_names
from .page import render_page, sheets_page
from .viewer_page import read_book, viewer_page, write_viewer
from .widget import book_widget

__all__ = [
    "Book",
    "Leaf",
    "Report",
    "add_names",
    "book_widget",
    "join_books",
    "make_book",
    "read_book",
    "render_page",
    "sheets_page",
    "viewer_page",
    "write_viewer",
]
