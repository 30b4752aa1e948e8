"""The page of a study: its conclusion in words, figures, tables, and trees to move about in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from .html import cell_text, script_digest
from .page import document, facts_table, picture_source

# Wheel zooms about the pointer, dragging moves, double click shows all: by the SVG's view box.
_SCRIPT = """
for (const tree of document.querySelectorAll("svg.tree")) {
  const all = tree.getAttribute("viewBox").split(" ").map(Number);
  let box = [...all];
  const show = () => tree.setAttribute("viewBox", box.join(" "));
  const at = (event) => {
    const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(tree.getScreenCTM().inverse());
    return [point.x, point.y];
  };
  tree.addEventListener("wheel", (event) => {
    event.preventDefault();
    const [x, y] = at(event);
    const factor = Math.min(Math.max(Math.exp(event.deltaY / 500), 0.05 * all[2] / box[2]), all[2] / box[2]);
    box = [x - (x - box[0]) * factor, y - (y - box[1]) * factor, box[2] * factor, box[3] * factor];
    show();
  }, { passive: false });
  let held = null;
  tree.addEventListener("pointerdown", (event) => { held = at(event); tree.setPointerCapture(event.pointerId); });
  tree.addEventListener("pointermove", (event) => {
    if (!held) return;
    const [x, y] = at(event);
    box[0] += held[0] - x; box[1] += held[1] - y;
    show();
  });
  for (const end of ["pointerup", "pointercancel"]) tree.addEventListener(end, () => { held = null; });
  tree.addEventListener("dblclick", () => { box = [...all]; show(); });
}
"""
_STYLE = """
svg.tree { background: #fff; width: 100%; height: 80vh; border: 1px solid #8884; border-radius: 4px; }
svg.tree { touch-action: none; cursor: grab; }
svg.tree text { text-anchor: middle; font: 14px system-ui, sans-serif; fill: #1b1b1f; }
svg.tree text.b { font-size: 12.5px; fill: #6a6a72; }
ol.conclusion li { margin: .5rem 0; max-width: 75ch; }
"""


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it: an SVG tree, a PNG, a table (rows of the same fields), finished HTML."""

    title: str
    svg: str = ""
    png: bytes = b""
    table: Sequence[Mapping[str, Any]] = ()
    html: str = ""


def report_page(
    *, title: str, lines: Sequence[str], sections: Sequence[Section], facts: Mapping[str, Any] | None = None
) -> str:
    """Self-contained HTML: the conclusion, what it rests on, how it was made; a script only where there is a tree."""
    found = "".join(f"<li>{escape(line)}</li>" for line in lines)
    body = f'<h2>Conclusion</h2><ol class="conclusion">{found}</ol>{"".join(map(_section, sections))}'
    body += facts_table(facts) if facts else ""
    if not any(section.svg for section in sections):
        return document(title, body, style=_STYLE)
    return document(title, body + f"<script>{_SCRIPT}</script>", style=_STYLE, script=script_digest(_SCRIPT))


def _section(section: Section) -> str:
    parts = [f"<h2>{escape(section.title)}</h2>"]
    if section.svg:
        hint = "<p>Wheel: nearer or farther. Drag: move. Double click: all of it.</p>"
        parts.append(hint + section.svg)
    if section.png:
        parts.append(f'<img alt="{escape(section.title)}" src="{picture_source(section.png)}">')
    if section.table:
        head = "".join(f"<th>{escape(key)}</th>" for key in section.table[0])
        rows = "".join(
            "<tr>" + "".join(f"<td>{escape(cell_text(value))}</td>" for value in row.values()) + "</tr>"
            for row in section.table
        )
        parts.append(f"<table><tr>{head}</tr>{rows}</table>")
    return "".join(parts) + section.html
