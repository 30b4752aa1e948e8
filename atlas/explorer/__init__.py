"""The page that shows a result: one self-contained HTML file."""

from .book import Book, Leaf, make_book
from .page import render_page, sheets_page
from .viewer_page import viewer_page
from .widget import book_widget

__all__ = ["Book", "Leaf", "book_widget", "make_book", "render_page", "sheets_page", "viewer_page"]
