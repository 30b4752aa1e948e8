"""atlas: maps of what a layer of a vision network has learned."""

from .build import build
from .grid import Cell
from .result import Atlas, load
from .settings import Settings

__all__ = ["Atlas", "Cell", "Settings", "build", "load"]
