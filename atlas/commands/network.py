"""The options that say which network a command looks at, and how images enter it: the same for every command."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from featviz.errors import UserError, unknown
from featviz.network.models import DEFAULT_MODEL, Model, load_model

from . import options


@dataclass(frozen=True)
class Network:
    """What the command line says of a network: its `name`, a file of `weights`, and `how` images enter it.

    `given`: whether the command line says any of that.
    """

    name: str = DEFAULT_MODEL
    weights: Path | None = None
    how: Mapping[str, Any] = field(default_factory=dict)
    given: bool = False

    def load(self, *, device: str, quiet: bool = False) -> Model:
        """The network, ready; what was understood of its file, and what is odd about it, is told unless quiet."""
        model = load_model(self.name, weights=self.weights, device=device, **self.how)
        console = Console(stderr=True, soft_wrap=True)
        for note in () if quiet else model.notes:
            console.print(f"note: {escape(note)}", highlight=False)
        return model


NETWORK = Network()
# Of a command that goes on with an atlas: the network of that.
ATLAS_S_OWN = Network("")


def takes_network(command: Callable[..., None]) -> Callable[..., None]:
    """The command with the options of its network in place of its parameter of the type `Network`.

    Where the command has an option --size of its own, the network's is --input-size alone.
    """
    signature = inspect.signature(command, eval_str=True)
    place = next(name for name, each in signature.parameters.items() if each.annotation is Network)
    default = signature.parameters[place].default.name or None
    own = [name for each in signature.parameters.values() for name in _option_names(each.annotation)]
    parameters = []
    for name, each in signature.parameters.items():
        parameters += _parameters(default, "--size" not in own) if name == place else [each]

    @wraps(command)
    def with_network(**given: Any) -> None:
        how = {name: read(given.pop(option)) for option, (name, read) in _HOW.items()}
        how = {name: value for name, value in how.items() if value is not None}
        name, weights = given.pop("model"), given.pop("weights")
        said = name != default or weights is not None or bool(how)
        command(**given, **{place: Network(name or DEFAULT_MODEL, weights, how, said)})

    with_network.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    with_network.__annotations__ = {each.name: each.annotation for each in parameters} | {"return": None}
    return with_network


def _parameters(default: str | None, size_is_free: bool) -> list[inspect.Parameter]:
    sizes = ["--input-size", *(["--size"] if size_is_free else [])]
    kinds: dict[str, tuple[Any, Any]] = {
        "model": (options.Model if default else _AtlasModel, default),
        "weights": (options.Weights, None),
        "input_size": (_Text(*sizes, help="Of the network's input: 224, or 256x128 (HEIGHTxWIDTH), in pixels."), None),
        "mean": (
            _Text("--mean", help="Of its input, a number per channel, images in [0, 1]: 0.485,0.456,0.406."),
            None,
        ),
        "std": (_Text("--std", help="Deviation of its input, likewise: 0.5,0.5,0.5."), None),
        "interpolation": (_Text("--interpolation", help="How images are scaled for it: bilinear or bicubic."), None),
        "crop": (
            Annotated[
                float | None, typer.Option("--crop", help="Share of the shorter side that the central crop keeps.")
            ],
            None,
        ),
        "labels": (
            _Text("--labels", help="Names of its classes: a file with one a line, .json, or .csv with a column name."),
            None,
        ),
    }
    plain = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return [inspect.Parameter(name, plain, default=value, annotation=kind) for name, (kind, value) in kinds.items()]


_AtlasModel = Annotated[
    str | None,
    typer.Option("--model", help="The atlas's network, to see photographs that are not the atlas's own."),
]


def _Text(*names: str, help: str) -> Any:  # noqa: A002, N802  # it stands for a type
    return Annotated[str | None, typer.Option(*names, help=help)]


def _option_names(annotation: Any) -> list[str]:
    """The option names that a parameter of a command declares."""
    declared = [each for each in getattr(annotation, "__metadata__", ()) if isinstance(each, typer.models.OptionInfo)]
    return [str(name) for each in declared for name in (each.default, *(each.param_decls or ()))]


def _size(text: str | None) -> int | tuple[int, int] | None:
    from featviz.network.spec import read_size

    return None if text is None else read_size(text, "--input-size")


def _numbers(option: str) -> Callable[[str | None], tuple[float, ...] | None]:
    def read(text: str | None) -> tuple[float, ...] | None:
        return None if text is None else tuple(map(float, options.numbers(text, option, float)))

    return read


def _interpolation(text: str | None) -> str | None:
    if text not in (None, "bilinear", "bicubic"):
        raise unknown("interpolation", str(text), ["bilinear", "bicubic"])
    return text


def _crop(share: float | None) -> float | None:
    if share is not None and not 0 < share <= 1:
        raise UserError(f"--crop is a share of the shorter side, above 0 and at most 1; got {share}.")
    return share


def _labels(file: str | None) -> tuple[str, ...] | None:
    from featviz.network.label_file import read_labels

    return None if file is None else read_labels(file)


# Parameter of a command -> argument of `Model.wrap`, and what reads it.
_HOW: Mapping[str, tuple[str, Callable[[Any], Any]]] = {
    "input_size": ("size", _size),
    "mean": ("mean", _numbers("--mean")),
    "std": ("std", _numbers("--std")),
    "interpolation": ("interpolation", _interpolation),
    "crop": ("crop", _crop),
    "labels": ("labels", _labels),
}
