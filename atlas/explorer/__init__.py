"""The page that shows a result: one self-contained HTML file."""

from .page import atlas_page, render_page, sheets_page

__all__ = ["atlas_page", "render_page", "sheets_page"]
