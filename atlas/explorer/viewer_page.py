"""The explorer's page: the book, the viewer and nothing from elsewhere, in one file."""

from __future__ import annotations

import base64
import hashlib
import json
from html import escape
from pathlib import Path

from .book import Book

_HERE = Path(__file__).parent
# In the order in which they build on each other; together they are one module.
_PARTS = ("book", "camera", "draw", "address", "panel", "search", "main")
# The page in the place of a notebook's model: the viewer asks it for the manifest and the blocks.
_HOST = """
const blocks = (name) => document.querySelector(`script[data-name="${CSS.escape(name)}"]`)?.textContent ?? null;
const held = { manifest: JSON.parse(document.getElementById("manifest").textContent), block: blocks, view: "" };
render({ model: { get: (name) => held[name] }, el: document.getElementById("atlas") });
"""
_STYLE = "html, body { height: 100%; margin: 0; }"


def viewer_script() -> str:
    """The viewer as one ES module that exports `render({model, el})`."""
    return "\n".join((_HERE / "viewer" / f"{part}.js").read_text(encoding="utf-8") for part in _PARTS)


def viewer_style() -> str:
    """The viewer's style sheet."""
    return (_HERE / "viewer.css").read_text(encoding="utf-8")


def viewer_page(book: Book) -> str:
    """HTML that opens by double-click, without a network: it may run its one script and show its own pictures only."""
    title = escape(str(book.manifest["title"]))
    script = viewer_script() + _HOST
    blocks = "".join(
        f'<script type="application/x-block" data-name="{escape(name)}">{text}</script>'
        for name, text in book.blocks.items()
    )
    policy = (
        f"default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src {_digest(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f"<title>{title}</title><style>{_STYLE}{viewer_style()}</style></head>"
        f'<body><main id="atlas"><noscript>This page draws its map with a script of its own; switch scripts on to see '
        f"it. The same map is in atlas.png beside it.</noscript></main>"
        f'<script type="application/json" id="manifest">{_inert(book.manifest)}</script>{blocks}'
        f'<script type="module">{script}</script></body></html>\n'
    )


def _inert(content: object) -> str:
    """JSON that cannot end the element it stands in, whatever names it holds."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _digest(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode('ascii')}'"
