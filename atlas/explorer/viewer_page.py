"""The explorer's page: the book and the viewer, in one file or, where it is large, in a folder."""

from __future__ import annotations

import json
import re
from html import escape, unescape
from pathlib import Path

from featviz.errors import UserError
from featviz.run.output import OutputFolder

from .book import Book
from .html import script_digest

_HERE = Path(__file__).parent
# In the order in which they build on each other; together they are one module.
_PARTS = (
    "book", "camera", "draw", "address", "dom", "photograph", "cell", "card", "report", "search", "filter", "stage",
    "hands", "head", "main",
)  # fmt: skip
# Levels of a map, and bytes of its pictures and tables, up to which a page is one file.
MOST_LEVELS, MOST_BYTES = 3, 40_000_000
# The page in the place of a notebook's model: the viewer asks it for the manifest and the blocks.
_HOST = """
const asked = new Map();
globalThis.activationAtlasBlock = (name, text) => asked.get(name)?.(text);
const beside = (name) => new Promise((done) => {
  const script = document.createElement("script");
  const end = (text) => { asked.delete(name); script.remove(); done(text); };
  asked.set(name, end);
  script.onload = script.onerror = () => end(null);
  script.src = `tiles/${name.replaceAll("/", "-")}.js`;
  document.head.append(script);
});
const held = { manifest: JSON.parse(document.getElementById("manifest").textContent), view: "", own: true };
const within = (name) => document.querySelector(`script[data-name="${CSS.escape(name)}"]`)?.textContent ?? null;
held.block = (name) => within(name) ?? (held.manifest.apart ? beside(name) : null);
render({ model: { get: (name) => held[name] }, el: document.getElementById("atlas") });
"""
_STYLE = "html, body { height: 100%; margin: 0; }"
_MANIFEST = re.compile(r'<script type="application/json" id="manifest">(.*?)</script>', re.DOTALL)
_BLOCK = re.compile(r'<script type="application/x-block" data-name="([^"]*)">(.*?)</script>', re.DOTALL)
_TILE = re.compile(r'activationAtlasBlock\("([^"]*)", "([^"]*)"\)')


def viewer_script() -> str:
    """The viewer as one ES module that exports `render({model, el})`."""
    return "\n".join((_HERE / "viewer" / f"{part}.js").read_text(encoding="utf-8") for part in _PARTS)


def viewer_style() -> str:
    """The viewer's style sheet."""
    return (_HERE / "viewer.css").read_text(encoding="utf-8")


def write_viewer(book: Book, folder: OutputFolder) -> None:
    """Write index.html, and for a large map what lies beyond the coarsest of its levels into tiles/.

    Large are more than three levels, and more than 40 MB.

    Those are scripts, loaded where they are looked at: a page opened from a file can load nothing else, and one file of
    everything would be too large to open.
    """
    inside, apart = book.blocks, dict[str, str]()
    levels = max((len(each["levels"]) for each in book.manifest["maps"]), default=0)
    if levels > MOST_LEVELS or sum(map(len, inside.values())) > MOST_BYTES:
        inside = {name: text for name, text in inside.items() if re.match(r"\d+/0/", name)}
        apart = {name: text for name, text in book.blocks.items() if name not in inside}
        for name, text in apart.items():
            folder.write_text(f"tiles/{name.replace('/', '-')}.js", f'activationAtlasBlock("{name}", "{text}");\n')
    folder.write_text("index.html", viewer_page(Book({**book.manifest, "apart": bool(apart)}, inside)))


def viewer_page(book: Book) -> str:
    """HTML that opens by double-click, without a network: it may run its one script and show its own pictures only."""
    title = escape(str(book.manifest["title"]))
    script = viewer_script() + _HOST
    blocks = "".join(
        f'<script type="application/x-block" data-name="{escape(name)}">{text}</script>'
        for name, text in book.blocks.items()
    )
    # Of a folder, also the scripts beside it: 'self' where it is served, file: where it is opened by double-click.
    beside = " 'self' file:" if book.manifest.get("apart") else ""
    policy = (
        f"default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; "
        f"script-src {script_digest(script)}{beside}; base-uri 'none'; form-action 'none'"
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


def read_book(page: Path) -> Book:
    """What an explorer's page holds, the tiles beside it too; a `UserError` for a file that is none."""
    text = page.read_text(encoding="utf-8") if page.is_file() else ""
    found = _MANIFEST.search(text)
    if found is None:
        raise UserError(
            f"{str(page)!r} is no page of the explorer: `atlas build`, `compare` or `patch` write such pages."
        )
    book = Book(json.loads(found[1]), {unescape(name): block for name, block in _BLOCK.findall(text)})
    if book.manifest.pop("apart", False):
        for file in sorted((page.parent / "tiles").glob("*.js")):
            book.blocks.update(_TILE.findall(file.read_text(encoding="utf-8")))
    return book


def _inert(content: object) -> str:
    """JSON that cannot end the element it stands in, whatever names it holds."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
