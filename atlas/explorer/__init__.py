"""The page that shows a result: one self-contained HTML file."""

from .book import Book, Leaf, make_book
from .join import join_books, read_book
from .page import render_page, sheets_page
from .viewer_page import viewer_page
from .widget import book_widget

__all__ = [
    "Book",
    "Leaf",
    "book_widget",
    "join_books",
    "make_book",
    "read_book",
    "render_page",
    "sheets_page",
    "viewer_page",
]
