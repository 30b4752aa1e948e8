"""Modules by their names from before there were rooms, for one version: `featviz.trunk` for `featviz.network.trunk`."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

# Package -> room -> the files that were in the package itself.
ROOMS: dict[str, dict[str, list[str]]] = {
    "featviz": {
        "run": ("engine keep lock memory output ray_engine").split(),
        "network": (
            "about address answer arguments bands batch_size checkpoints class_index classifier copies default_layer "
            "effects find_layout forward gradients hub label_file layers layout load models moves own rectifiers "
            "resize result spec tokens trunk units watching weights_file zoo"
        ).split(),
        "draw": (
            "ascent canvas certificate color contrast drawing likeness lucent maximize mis noise norms objectives "
            "path_similarity penalties picture references rising robust spectrum superstimuli transforms watch"
        ).split(),
        "explain": (
            "attention attribution band_evidence cam dissection localisation occlusion pruning saliency target trust"
        ).split(),
    },
    "search": {
        "images": (
            "arrays bands blank check classes datasets decode dicom digits folder image_set images labels pictures "
            "tables torch_datasets volumes"
        ).split(),
        "scan": (
            "correlations distribution loading matrix pack pooled_head readout receptive record sampled scan shards "
            "statistics topk"
        ).split(),
        "naming": ("hierarchy naming text vocabulary").split(),
        "exemplars": ("diverse exemplars focus index layer_exemplars names parquet reference report sheet").split(),
        "card": ("card card_figure selectivity stimuli sufficiency").split(),
    },
}
MOVED = {
    f"{package}.{name}": f"{package}.{room}.{name}"
    for package, rooms in ROOMS.items()
    for room, names in rooms.items()
    for name in names
}


class OldNames(MetaPathFinder):
    """Finds what has moved by its old name, with a warning."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        # A room that is called like a file it holds is found before this is asked: see `of_room`.
        return ModuleSpec(fullname, _Moved()) if fullname in MOVED else None


class _Moved(Loader):
    """Puts the module itself in the place of its old name."""

    def exec_module(self, module: ModuleType) -> None:
        new = MOVED[module.__name__]
        warnings.warn(f"{module.__name__} is {new} now.", DeprecationWarning, stacklevel=2)
        sys.modules[module.__name__] = importlib.import_module(new)


def of_room(room: str) -> Callable[[str], Any]:
    """`__getattr__` of a room that is called like a file it holds, such as `search.scan`, for what that file has."""

    def get(name: str) -> Any:
        home = MOVED[room]
        if name.startswith("__") or not hasattr(module := importlib.import_module(home), name):
            raise AttributeError(f"module {room!r} has no attribute {name!r}")
        warnings.warn(f"{room}.{name} is {home}.{name} now.", DeprecationWarning, stacklevel=2)
        return getattr(module, name)

    return get


def install() -> None:
    """Have old names found, once."""
    if not any(isinstance(finder, OldNames) for finder in sys.meta_path):
        sys.meta_path.append(OldNames())
