"""atlas: maps of what a layer of a vision network has learned."""

from .align import AlignedAtlases, align
from .build import build
from .class_atlas import ClassAtlas, ClassPanel
from .class_folder import class_atlas
from .compare import Comparison, compare
from .dissect import dissect
from .explain import ExplainSettings, explain
from .explanation import Explanation
from .files import load
from .grid import Cell
from .label import label, label_folder
from .patch_folder import PatchTest, patch_test
from .regions import Region
from .result import Atlas
from .settings import Settings

__all__ = [
    "AlignedAtlases",
    "Atlas",
    "Cell",
    "ClassAtlas",
    "ClassPanel",
    "Comparison",
    "ExplainSettings",
    "Explanation",
    "PatchTest",
    "Region",
    "Settings",
    "align",
    "build",
    "class_atlas",
    "compare",
    "dissect",
    "explain",
    "label",
    "label_folder",
    "load",
    "patch_test",
]
