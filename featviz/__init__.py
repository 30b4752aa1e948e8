"""featviz: draw what excites a unit, a direction or a class of a vision network the most."""

from .draw import objectives
from .draw.canvas import CANVASES
from .draw.maximize import Pictures, maximize
from .draw.objectives import Activations, Objective
from .errors import UserError
from .moved import install as _install_old_names
from .network.layers import Layout, find_layer, find_layers, layer_names
from .network.models import DEFAULT_MODEL, Model, Preprocess, load_model, model_names
from .network.trunk import Trunk
from .network.units import Unit, parse_units

__all__ = [
    "CANVASES",
    "DEFAULT_MODEL",
    "Activations",
    "Layout",
    "Model",
    "Objective",
    "Pictures",
    "Preprocess",
    "Trunk",
    "Unit",
    "UserError",
    "find_layer",
    "find_layers",
    "layer_names",
    "load_model",
    "maximize",
    "model_names",
    "objectives",
    "parse_units",
]

_install_old_names()
