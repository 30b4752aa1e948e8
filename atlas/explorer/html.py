"""What the pages' HTML has in common."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import Any


def cell_text(value: Any) -> str:
    """A value as a table's cell shows it."""
    if value is None:
        return "–"
    return ", ".join(f"{key} {count}" for key, count in value.items()) if isinstance(value, Mapping) else str(value)


def script_digest(script: str) -> str:
    """The script as a page's Content-Security-Policy names it: no other one runs."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode('ascii')}'"


def told(value: Any) -> str:
    """A fact for a reader: numbers to four digits, lists with commas; '' for what is not known."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {text}" for key, each in value.items() if (text := told(each)))
    if isinstance(value, (list, tuple)):
        return ", ".join(map(told, value))
    return str(value)
