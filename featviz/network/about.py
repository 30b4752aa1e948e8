"""What a network is, as the toolkit found it: what it takes, what it answers, how its layers are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import UserError
from .answer import answer_of
from .layers import OUTPUT
from .models import Model
from .trunk import Trunk


def stated(model: Model, layers: Sequence[str] = ()) -> dict[str, Any]:
    """What was found out about a model, in words and numbers that JSON holds.

    `input`: channels, size in pixels, whether other sizes are taken, the weights' type; `result`: what it returns;
    `layers`: of those asked for, how each is read and how that is known; `depends_on`: what results depend on beside
    the image: `pass`, `batch`.
    """
    how = model.preprocess
    answer, other = _result(model)
    weight = next((each for each in model.network.parameters() if each.is_floating_point()), None)
    told: dict[str, str] = {}
    trunk = Trunk(model, list(layers), fold=False)
    for name in layers:
        try:
            layout = model.layouts.of(trunk.network, name, beside=layers)
            told[name] = f"{layout}, by {layout.found}"
        except UserError as error:
            told[name] = str(error)
    unsteady, together = model.layouts.unsteady, model.layouts.together
    return {
        "input": {
            "channels": how.channels,
            "size": list(how.size),
            "other_sizes": other,
            "dtype": "none" if weight is None else str(weight.dtype).removeprefix("torch."),
        },
        "result": answer,
        "layers": told,
        "depends_on": ["pass"] * bool(unsteady) + ["batch"] * bool(together),
    }


def in_words(model: Model) -> str:
    """The same as a few lines for people."""
    found = stated(model)
    given: Mapping[str, Any] = found["input"]
    height, width = given["size"]
    sizes = "other sizes, too" if given["other_sizes"] else "no other size"
    lines = [
        f"{model.name}: {type(model.network).__name__}, {given['dtype']}",
        f"takes {given['channels']} channel{'s' * (given['channels'] > 1)} of {height} x {width} pixels ({sizes})",
        f"returns {found['result']}",
    ]
    if found["depends_on"]:
        lines.append(f"results depend on the {' and the '.join(found['depends_on'])}")
    return "\n".join(lines)


def _result(model: Model) -> tuple[str, bool]:
    """What the network returns, and whether it takes images of another size than its own."""
    height, width = model.preprocess.size
    smaller = (max(1, height * 3 // 4), max(1, width * 3 // 4))
    try:
        answer = str(answer_of(model))
        return answer, Trunk(model, [OUTPUT], fold=False).input_size(smaller) == smaller
    except UserError as error:
        return str(error), False
