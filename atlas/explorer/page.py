"""Plain pages: contact sheets, superstimuli of units, tables of cells."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from html import escape
from io import BytesIO
from pathlib import Path
from statistics import fmean
from typing import Any

from PIL import Image

from featviz.draw.certificate import Certificate
from featviz.draw.transforms import NOISE

from ..grid import Cell
from .html import told

# Bytes from which a sheet is embedded as JPEG, and how long that format's sides can be.
_LARGE, _JPEG_LIMIT = 1_000_000, 65_500
_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 1100px; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
img { max-width: 100%; height: auto; border: 1px solid #8884; border-radius: 4px; }
table { border-collapse: collapse; font-size: .875rem; }
th, td { text-align: left; padding: .2rem .9rem .2rem 0; border-bottom: 1px solid #8883; vertical-align: top; }
td.n { font-variant-numeric: tabular-nums; text-align: right; }
td { overflow-wrap: anywhere; }
summary { cursor: pointer; }
.sheet { display: grid; grid-template-columns: repeat(auto-fill, minmax(170px, 1fr)); gap: 1.2rem; }
figure { margin: 0; } figure img { width: 100%; } figcaption { font-size: .8125rem; overflow-wrap: anywhere; }
"""


def render_page(*, title: str, certificates: Sequence[Certificate], folder: Path, facts: Mapping[str, Any]) -> str:
    """HTML of superstimuli: each unit's PNG of the folder over its name and certificate, then the facts as a table."""
    figures = "".join(
        f'<figure><img alt="Superstimulus of {escape(entry.unit)}" '
        f'src="data:image/png;base64,{_base64((folder / entry.file).read_bytes())}">'
        f"<figcaption><b>{escape(entry.unit)}</b>{escape(_more(entry))}<br>"
        f"{escape(', '.join(evidence(entry)))}</figcaption></figure>"
        for entry in certificates
    )
    return document(title, f'<div class="sheet">{figures}</div>{facts_table(facts)}')


def sheets_page(*, title: str, sheets: Mapping[str, bytes], facts: Mapping[str, Any]) -> str:
    """HTML of contact sheets, PNGs by file name, then the facts as a table.

    Large sheets are shown as JPEG, a fifth of the size.
    """
    figures = "".join(
        f'<h2>{escape(name.removesuffix(".png"))}</h2><img alt="{escape(name)}" src="{picture_source(png)}">'
        for name, png in sheets.items()
    )
    return document(title, f"{figures}{facts_table(facts)}")


def _more(entry: Certificate) -> str:
    """A class's name and a facet's number, where there is one."""
    return f" {entry.label}" * bool(entry.label) + f" ({entry.facet})" * (entry.facet > 1)


def evidence(entry: Certificate) -> list[str]:
    """The certificate in words, what it does not know left out."""
    parts = ["activation not finite" if entry.activation is None else f"activation {entry.activation:.3g}"]
    if entry.gain is not None:
        parts.append(f"{entry.gain:.1f} × that of the strongest images, in noisy views both")
    elif entry.z is not None:
        parts.append(f"{entry.z:.1f} × as far above the data set's median as its maximum")
    if entry.clean is not None:
        strongest = "" if entry.clean_max is None else f", the strongest image {entry.clean_max:.3g}"
        parts.append(f"in a clean pass {entry.clean:.3g}{strongest}")
    if entry.rank is not None and entry.selectivity is not None:
        parts.append(f"rank {entry.rank} in its layer (z {entry.selectivity:.1f})")
    if entry.slope_error is not None:
        parts.append(f"spectrum {entry.slope_error:.2f} off the photographs'")
    path = [step.score for step in (entry.path_similarity or {}).values() if step.score is not None]
    if path:
        parts.append(f"path similarity {fmean(path):.2f} (1: as the images that excite it, 0: as others)")
    if entry.mis is not None and entry.mis_accuracy is not None:
        parts.append(f"MIS {entry.mis:.2f} ({entry.mis_accuracy:.0%} right)")
    if entry.dead:
        parts.append("dead")
    if entry.noise is not None and entry.noise < NOISE:
        parts.append(f"drawn through noise up to {entry.noise:.2g}: more would blind the network")
    if entry.rescued:
        parts.append(f"no gradient of its own at {entry.rescued} steps")
    return parts


def document(title: str, body: str, *, style: str = "", script: str = "") -> str:
    """A page that fetches nothing; script: the digest of the one script that it may run."""
    scripts = f"; script-src {script}" if script else ""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" '
        f"content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'{scripts}\">"
        f"<title>{escape(title)}</title><style>{_STYLE}{style}</style></head>"
        f"<body><h1>{escape(title)}</h1>{body}</body></html>\n"
    )


def facts_table(facts: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><th>{escape(str(key))}</th><td>{escape(text)}</td></tr>"
        for key, value in facts.items()
        if (text := told(value))
    )
    return f"<h2>How it was made</h2><table>{rows}</table>"


def cells_table(level: int, cells: Sequence[Cell], names: Sequence[str], class_name: Callable[[int], str]) -> str:
    rows = "".join(
        f'<tr><td class="n">{cell.row}</td><td class="n">{cell.col}</td><td class="n">{cell.count}</td>'
        f'<td class="n">{"" if cell.score is None else format(cell.score, ".2f")}</td>'
        f"<td>{escape(cell.name.text if cell.name else '')}</td>"
        f"<td>{escape(', '.join(f'{class_name(label)} {effect:+.2f}' for label, effect in cell.top[:3]))}</td>"
        f"<td>{escape(', '.join(dict.fromkeys(names[image] for image, _, _ in cell.exemplars)))}</td></tr>"
        for cell in cells
    )
    columns = ("row", "column", "vectors", "score", "name", "largest effects", "nearest images")
    head = f"<tr>{''.join(f'<th>{name}</th>' for name in columns)}</tr>"
    return (
        f"<h2>Cells of the {level} × {level} grid</h2>"
        f"<details><summary>{len(cells)} cells</summary><table>{head}{rows}</table></details>"
    )


def picture_source(png: bytes) -> str:
    """A picture as the address of an image."""
    with Image.open(BytesIO(png)) as picture:
        if len(png) > _LARGE and max(picture.size) < _JPEG_LIMIT:
            stream = BytesIO()
            picture.convert("RGB").save(stream, "JPEG", quality=88)
            return f"data:image/jpeg;base64,{_base64(stream.getvalue())}"
    return f"data:image/png;base64,{_base64(png)}"


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
