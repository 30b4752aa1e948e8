"""featviz: draw what excites a unit, a direction or a class of a vision network the most."""

from .canvas import CANVASES
from .errors import UserError
from .layers import Layout, find_layer, find_layers, layer_names
from .maximize import Pictures, maximize
from .models import DEFAULT_MODEL, Model, Preprocess, load_model, model_names
from .objectives import Activations, Objective
from .trunk import Trunk
from .units import Unit, parse_units

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
    "parse_units",
]
