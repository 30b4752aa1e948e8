"""atlas: maps of what a layer of a vision network has learned."""

from .build import Atlas, Settings, build, load
from .grid import Cell

__all__ = ["Atlas", "Cell", "Settings", "build", "load"]
