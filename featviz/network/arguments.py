"""What people pass to `Model.wrap`, in the shapes that other libraries have it in, understood or refused by name."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Mapping, Set
from itertools import pairwise
from typing import Any, TypedDict

import torch
from torch import Tensor, nn

from ..errors import UserError, unknown
from .result import ACTIVATIONS, Activation

# The names of Pillow's filters, and how else they are called.
INTERPOLATIONS = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")
_ALIASES = {"nearest-exact": "nearest", "nearest_exact": "nearest", "linear": "bilinear", "cubic": "bicubic",
            "antialias": "lanczos"}  # fmt: skip
# Pillow's numbers for its filters, which Hugging Face's `resample` is.
_NUMBERS = dict(enumerate(("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")))
# The largest mean or deviation of images in [0, 1]; beyond it they are those of pixels from 0 to 255.
_MOST = 2.0
_SIZES = "size is one side or (height, width) in pixels, such as 224, (224, 320) or {'height': 224, 'width': 224}"


def checked_network(module: Any) -> nn.Module:
    """The module; `UserError` for anything else."""
    if isinstance(module, torch.jit.ScriptModule):
        raise UserError("a network is an nn.Module whose layers can be read, which torch.jit's cannot; got "
                        f"{type(module).__name__}: wrap the module that it was made of.")  # fmt: skip
    if isinstance(module, nn.Module):
        return module
    if isinstance(module, type) and issubclass(module, nn.Module):
        raise UserError(f"a network is an nn.Module; got the class {module.__name__} itself: call it to make one.")
    hint = ": a state dict holds weights alone, load it into a network" if isinstance(module, Mapping) else ""
    raise UserError(f"a network is an nn.Module; got {type(module).__name__}{hint}.")


def image_size(given: Any, channels: int) -> tuple[int, int]:
    """(height, width) of a side, (height, width), (channels, height, width), or Hugging Face's dict of either."""
    if isinstance(given, Mapping):
        return _size_of_dict(given)
    parts = _listed(given)
    if parts is None:
        side = _side(given, given)
        return (side, side)
    sides = [_side(each, given) for each in parts]
    if len(sides) == 3 and sides[0] == channels:
        return (sides[1], sides[2])
    if len(sides) == 3:
        raise UserError(f"{_SIZES}; got {_shown(given)}: of three numbers the first is the number of channels, "
                        f"and mean and std give {channels}.")  # fmt: skip
    if len(sides) not in (1, 2):
        raise UserError(f"{_SIZES}; got {_shown(given)}.")
    return (sides[0], sides[-1])


def _size_of_dict(given: Mapping[Any, Any]) -> tuple[int, int]:
    if set(given) == {"height", "width"}:
        return (_side(given["height"], given), _side(given["width"], given))
    if set(given) == {"shortest_edge"}:
        side = _side(given["shortest_edge"], given)
        return (side, side)
    raise UserError(f"{_SIZES}, or {{'shortest_edge': 224}}; got a dict of {', '.join(map(repr, given)) or 'nothing'}.")


def _side(given: Any, whole: Any) -> int:
    try:
        side = operator.index(given.item() if hasattr(given, "item") else given)
    except (TypeError, ValueError, RuntimeError):  # no number, or several
        side = 0
    if side < 1 or isinstance(given, bool):
        raise UserError(f"{_SIZES}; got {_shown(whole)}.")
    return side


def crop_share(given: Any) -> float:
    """The share of the shorter side that the central crop keeps, in (0, 1]."""
    share = _number(given, "crop")
    if 0 < share <= 1:
        return share
    hint = f" Did you mean {share / 100:g}?" if 10 <= share <= 100 else ""
    raise UserError(f"crop is the share of the shorter side that is kept, above 0 and up to 1; got {share:g}.{hint}")


def channel_numbers(mean: Any, std: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """mean and std, one number per input channel each, of images in [0, 1]."""
    means, deviations = _per_channel(mean, "mean"), _per_channel(std, "std")
    if len(means) != len(deviations) or not means:
        raise UserError(
            f"mean and std need one number per input channel each; mean has {len(means)} and std {len(deviations)}."
        )
    for name, values in (("mean", means), ("std", deviations)):
        high = [value for value in values if abs(value) > _MOST]
        if high:
            raise UserError(
                f"images are in [0, 1], and {name} holds {high[0]:g}: is that of pixels from 0 to 255? "
                f"Then divide mean and std by 255, which gives {high[0] / 255:.3g}."
            )
    low = [value for value in deviations if value <= 0]
    if low:
        raise UserError(f"images are divided by std, so that each number lies above 0; got {low[0]:g}.")
    return means, deviations


def _per_channel(given: Any, name: str) -> tuple[float, ...]:
    parts = _listed(given)
    return tuple(_number(part, name) for part in ([given] if parts is None else parts))


def _number(given: Any, name: str) -> float:
    if isinstance(given, (str, bytes, bool)) or given is None:
        raise UserError(f"{name} takes numbers; got {given!r}.")
    try:
        number = float(given)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{name} takes numbers; got {_shown(given)}.") from error
    if not math.isfinite(number):
        raise UserError(f"{name} takes finite numbers; got {number}.")
    return number


def interpolation_name(given: Any) -> str:
    """Pillow's name of a filter, from its name in any case, torchvision's InterpolationMode or Pillow's Resampling."""
    text = getattr(given, "value", given)
    if not isinstance(text, str):  # Pillow's Resampling is a number
        number = operator.index(text) if hasattr(text, "__index__") and not isinstance(text, bool) else -1
        if number not in _NUMBERS:
            raise UserError(f"interpolation is one of {', '.join(INTERPOLATIONS)}; got {_shown(given)}.")
        return _NUMBERS[number]
    name = text.strip().lower().rpartition(".")[2]  # str(InterpolationMode.BICUBIC) has the class before it
    name = _ALIASES.get(name, name)
    if name not in INTERPOLATIONS:
        raise unknown("interpolation", text, INTERPOLATIONS, f"There are {', '.join(INTERPOLATIONS)}.")
    return name


def class_names(given: Any) -> tuple[str, ...]:
    """Class names in the order of the network's numbers, from a list, an array, or a dict of numbers or of names."""
    if given is None:
        return ()
    if isinstance(given, str) and _is_run(given):
        return tuple(given)
    if isinstance(given, (str, bytes)):
        raise UserError(f"labels are a list of class names; a single text is not a list of classes: got {given!r}. "
                        f"Write [{given!r}] for one class, list({given!r}) for one for each sign.")  # fmt: skip
    if isinstance(given, Mapping):
        return _names_of_dict(given)
    if isinstance(given, Set):
        raise UserError("labels are class names in the order of the network's numbers; a set has no order.")
    parts = _listed(given)
    if parts is None:
        raise UserError(f"labels are a list of class names; got {_shown(given)}.")
    return tuple(_name(part) for part in parts)


def _is_run(text: str) -> bool:
    """Whether signs follow upon one another, as in `0123456789` or `abcd`: classes of one sign each, and no word."""
    return len(text) > 1 and all(ord(after) == ord(before) + 1 for before, after in pairwise(text))


def _names_of_dict(given: Mapping[Any, Any]) -> tuple[str, ...]:
    """Of {0: name}, as Hugging Face's id2label, or of {name: 0}, as its label2id and torchvision's class_to_idx."""
    pairs = list(given.items())
    if pairs and all(isinstance(key, str) and _whole(value) is not None and not isinstance(value, str)
                     for key, value in pairs):  # fmt: skip
        pairs = [(value, key) for key, value in pairs]
    names: dict[int, str] = {}
    for key, value in pairs:
        number = _whole(key)
        if number is None or number in names:
            why = "no class's number" if number is None else "there twice"
            raise UserError(f"labels as a dict have the numbers 0 to n - 1 as keys, and {key!r} is {why}.")
        names[number] = _name(value)
    gaps = [number for number in range(len(names)) if number not in names]
    if gaps:
        raise UserError(f"labels as a dict have the numbers 0 to {len(names) - 1} as keys; there is no {gaps[0]}.")
    return tuple(names[number] for number in range(len(names)))


def _whole(given: Any) -> int | None:
    """A number from 0 on, as such or written out."""
    if isinstance(given, str):
        return int(given) if given.isascii() and given.isdigit() and len(given) < 19 else None
    number = _index(given)
    return number if number is not None and number >= 0 else None


def _index(given: Any) -> int | None:
    """A whole number; None of anything else."""
    try:
        return None if isinstance(given, bool) else operator.index(given)
    except TypeError:
        return None


def _name(given: Any) -> str:
    if given is None or isinstance(given, (bytes, list, tuple, Mapping)):
        raise UserError(f"a class's name is a text; got {_shown(given)} among the labels.")
    return str(given.item() if hasattr(given, "item") else given)


def _listed(given: Any) -> list[Any] | None:
    """The parts of a list, array or tensor, whatever its shape; None of what has none, such as a number."""
    if isinstance(given, Tensor):
        given = given.detach().cpu()
        return None if given.dim() == 0 else list(given.flatten().tolist())
    if hasattr(given, "tolist") and hasattr(given, "ndim"):  # NumPy's
        return None if given.ndim == 0 else list(given.ravel().tolist())
    if isinstance(given, (str, bytes, Mapping, Set)) or not isinstance(given, Iterable):
        return None
    return list(given)


def _shown(given: Any) -> str:
    text = repr(given)
    return text if len(text) <= 60 else f"{type(given).__name__} {text[:50]}..."


def checked_text(given: Any, name: str, such_as: str) -> str:
    """The text; `UserError` naming the argument for anything else, and for an empty one."""
    if not isinstance(given, str) or not given.strip():
        raise UserError(f"{name} is a text, such as {such_as!r}; got {_shown(given)}.")
    return given


class Answered(TypedDict):
    """What a user states of what a network returns."""

    logits: str | int | None
    activation: Activation | None
    tokens: tuple[int, int, int] | None


def checked_answer(logits: Any, activation: Activation | None, tokens: Any) -> Answered:
    """What is stated of a network's result and tokens; raises `UserError` for what cannot be meant."""
    if logits is not None and not (isinstance(logits, str) and logits) and _index(logits) is None:
        raise UserError(f"logits is a key or a number, such as 'logits' or 0, where they are in a result of several; "
                        f"got {_shown(logits)}.")  # fmt: skip
    where = logits if logits is None or isinstance(logits, str) else _index(logits)
    if activation is not None and activation not in ACTIVATIONS:
        raise unknown("activation", str(activation), ACTIVATIONS)
    if tokens is None:
        return {"logits": where, "activation": activation, "tokens": None}
    numbers = list(tokens) if isinstance(tokens, (tuple, list)) else []
    whole = len(numbers) == 3 and all(isinstance(each, int) for each in numbers)
    if not whole or min(numbers[:2]) < 1 or numbers[2] < 0:
        raise UserError(f"tokens are (rows, columns, prefix), such as (14, 14, 1); got {tokens!r}.")
    return {"logits": where, "activation": activation, "tokens": (numbers[0], numbers[1], numbers[2])}
