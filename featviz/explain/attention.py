"""Where a unit looks by a network's attention: rolled out, with and without the unit's derivative."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.graph import GradientEdge
from torch.overrides import TorchFunctionMode

from ..errors import UserError
from ..network.layers import infer_layout, split_token
from ..network.tokens import token_names
from .target import NotAllowedError, Target

_SOFTMAX = (F.softmax, torch.softmax, Tensor.softmax)
# What a layer of tokens passes through, by which the number of tokens is known.
_OF_TOKENS = (F.linear, F.layer_norm, torch.layer_norm)


def rollout(target: Target, image: Tensor) -> tuple[Tensor, str]:
    """Where what the unit reads comes from, if each layer's attention were all that moves it.

    Of every layer up to the unit half the mean of the heads' attention and half of what stays where it is, multiplied.
    It knows the unit only by the tokens that it is read from. Abnar and Zuidema 2020, "Quantifying Attention Flow in
    Transformers".
    """
    seen = _seen(target, image)
    flow = torch.eye(seen.tokens)
    for attention in seen.attention:
        mean = (attention.mean(0) + torch.eye(seen.tokens)) / 2
        flow = mean / mean.sum(1, keepdim=True) @ flow
    return seen.map(flow), f"{seen.note}; the same for every unit that is read there"


def gradient_rollout(target: Target, image: Tensor) -> tuple[Tensor, str]:
    """Where what raises the unit comes from: attention that its derivative speaks for, rolled out.

    Of every layer up to the unit the heads' mean of attention times derivative, what is positive of it, added to what
    stays where it is. Chefer, Gur and Wolf 2021, "Generic Attention-model Explainability".
    """
    seen = _seen(target, image)
    flow = torch.eye(seen.tokens)
    for attention, gradient in zip(seen.attention, seen.gradients, strict=True):
        flow = flow + (attention * gradient).relu().mean(0) @ flow
    return seen.map(flow - torch.eye(seen.tokens)), seen.note


@dataclass(frozen=True)
class _Seen:
    """What one pass has shown: per layer `attention` (heads, queries, keys) and the unit's derivatives by it.

    `rows`: the tokens that the unit is read from, as numbers of the last layer's queries; `before`: the names of those
    before the patches'; `grid`: the patches' (rows, columns).
    """

    attention: list[Tensor]
    gradients: list[Tensor]
    rows: list[int]
    before: list[str]
    grid: tuple[int, int]

    @property
    def tokens(self) -> int:
        return self.attention[0].shape[-1]

    @property
    def note(self) -> str:
        layers = f"{len(self.attention)} layers" if len(self.attention) > 1 else "one layer"
        where = f"the mean of {len(self.rows)} tokens"
        if len(self.rows) == 1:
            names = {"cls": "the class token"}
            before = [names.get(name, f"the token {name}") for name in self.before]
            where = [*before, "one patch's token"][min(self.rows[0], len(before))]
        return f"{layers} of attention, read at {where}"

    def map(self, flow: Tensor) -> Tensor:
        """The patches' part (rows, columns) of the flow (queries, tokens) to the tokens that the unit is read from."""
        return flow[self.rows].mean(0)[len(self.before) :].reshape(self.grid)


def _seen(target: Target, image: Tensor) -> _Seen:
    """The attention of the pass up to the unit; `NotAllowedError` where it is none over the whole grid."""
    with torch.inference_mode(False), torch.enable_grad(), Attention() as watched:
        found = target(image.clone().requires_grad_())
        attention = [each.heads(len(image)) for each in watched.met]
        _check(target, attention, watched.lengths)
        gradients = _gradients(found, watched.met)
    prefix, grid = _grid(target, attention[-1].shape[-1])
    by = [gradient.reshape(kept.shape)[0] for gradient, kept in zip(gradients, attention, strict=True)]
    rows = by[-1].abs().sum((0, 2)).nonzero().flatten().tolist()
    before = token_names(target.trunk.network, prefix)
    if not rows:  # a unit that is shut
        rows = _own_rows(target, before, grid)
    return _Seen([each.detach()[0].float().cpu() for each in attention], by, rows, before, grid)


def _own_rows(target: Target, before: Sequence[str], grid: tuple[int, int]) -> list[int]:
    """The tokens that a unit is of, where no derivative says which it is read from."""
    unit, trunk = target.unit, target.trunk
    patches = range(len(before), len(before) + grid[0] * grid[1])
    if (token := split_token(unit.layer)[1]) in before:
        return [before.index(token)]
    if trunk.map_size(trunk.layers[0])[1:] == grid:  # else it is read behind the tokens, such as a class
        if unit.position is None:
            return list(patches)
        row, column = (grid[0] // 2, grid[1] // 2) if unit.position == "center" else unit.position
        return [patches[row * grid[1] + column]]
    return [0] if "cls" in before else list(patches)


def _gradients(found: Tensor, met: Sequence[_Met]) -> list[Tensor]:
    """The unit's derivatives by each attention matrix, in the matrix's own shape."""
    nothing = [torch.zeros(each.matrix.shape) for each in met]
    edges = [each.edge for each in met]
    known = [edge for edge in edges if edge is not None]
    if not found.requires_grad or not known:
        return nothing
    grads = iter(torch.autograd.grad(found.sum(), known, allow_unused=True))
    made = [None if edge is None else next(grads) for edge in edges]
    return [zero if each is None else each.float().cpu() for each, zero in zip(made, nothing, strict=True)]


def _check(target: Target, attention: Sequence[Tensor], lengths: set[int]) -> None:
    name, does = target.model.name, "Grad-CAM (gradcam) does without."
    if not attention:
        raise NotAllowedError(f"{name} has no attention that {target.unit} depends on, to be rolled out. {does}")
    for each in attention:
        queries, keys = each.shape[-2:]
        if len(each) > 1:
            raise NotAllowedError(
                f"attention is rolled out over the whole image; that of {name} stays within {len(each)} windows. {does}"
            )
        if queries == keys and keys not in lengths:
            raise NotAllowedError(
                f"attention is rolled out from token to token; that of {name} mixes {keys} things that are no tokens, "
                f"such as channels. {does}"
            )
        if queries != keys:
            raise NotAllowedError(
                f"attention is rolled out from every token to every token; {name} has one of {queries} queries on "
                f"{keys} keys. {does}"
            )
    if len({each.shape[-1] for each in attention}) > 1:
        sizes = ", ".join(str(number) for number in sorted({each.shape[-1] for each in attention}))
        raise NotAllowedError(f"attention is rolled out over one grid; that of {name} has {sizes} tokens. {does}")


def _grid(target: Target, tokens: int) -> tuple[int, tuple[int, int]]:
    """How many tokens stand before the patches', and the patches' (rows, columns)."""
    trunk = target.trunk
    with suppress(UserError):  # there may be no such layer, and then the number of tokens has to do
        known = target.model.layouts.of(trunk.network, target.last_map)
        if known.kind == "tokens" and known.prefix + known.grid[0] * known.grid[1] == tokens:
            return known.prefix, known.grid
    try:
        layout = infer_layout(
            trunk.network, target.unit.layer, torch.zeros(1, tokens, 1), batch=1, size=trunk.preprocess.size
        )
    except UserError as error:
        raise NotAllowedError(f"attention of {tokens} tokens is no grid of patches: {error}") from error
    return layout.prefix, layout.grid


@dataclass(frozen=True)
class _Met:
    """An attention matrix (n, heads, queries, keys), or (n * heads, ...), and where its derivative is had."""

    matrix: Tensor
    edge: GradientEdge | None

    def heads(self, batch: int) -> Tensor:
        """(n, heads, queries, keys), or of windows more than n."""
        matrix = self.matrix.detach()
        return matrix if matrix.dim() == 4 else matrix.reshape(batch, -1, *matrix.shape[-2:])


class Attention(TorchFunctionMode):
    """Inside the `with`, every softmax attention of a pass is worked out in the open and kept in `met`, in order.

    By `scaled_dot_product_attention`, by `nn.MultiheadAttention` or written out with a softmax. `lengths`: how many
    tokens the layers beside it have.
    """

    def __init__(self) -> None:
        super().__init__()
        self.met: list[_Met] = []
        self.lengths: set[int] = set()

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            out, matrix = _in_the_open(*args, **kwargs)
            self._keep(matrix)
            return out
        if func is F.multi_head_attention_forward:
            return self._multi_head(func, args, kwargs)
        result = func(*args, **kwargs)
        if func in _SOFTMAX and result.dim() in (3, 4) and _last(func, args, kwargs) in (-1, result.dim() - 1):
            self._keep(result)
        elif func in _OF_TOKENS and result.dim() == 3:
            self.lengths |= {result.shape[0], result.shape[1]}
        return result

    def _multi_head(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: Any) -> Any:
        given = inspect.signature(func).bind(*args, **kwargs).arguments
        wanted = {**given, "need_weights": True, "average_attn_weights": False}
        out, weights = func(**wanted)
        # What is given back is a view beside the way to the output; the matrix itself is what it is a view of.
        node = weights.grad_fn
        while node is not None and any(word in node.name() for word in ("View", "Squeeze")):
            node = node.next_functions[0][0]
        matrix = weights if weights.dim() == 4 else weights[None]
        self.met.append(_Met(matrix, None if node is None else GradientEdge(node, 0)))
        if not given.get("need_weights", True):
            return out, None
        return out, weights if not given.get("average_attn_weights", True) else weights.mean(-3)

    def _keep(self, matrix: Tensor) -> None:
        edge = None if matrix.grad_fn is None else GradientEdge(matrix.grad_fn, matrix.output_nr)
        self.met.append(_Met(matrix, edge))


def _last(func: Callable[..., Any], args: tuple[Any, ...], kwargs: Any) -> Any:
    """The dimension of a softmax."""
    return kwargs.get("dim", args[1] if len(args) > 1 else None)


def _in_the_open(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> tuple[Tensor, Tensor]:
    """Attention's output and its matrix; what is dropped at random is not."""
    if enable_gqa:
        key, value = (each.repeat_interleave(query.shape[-3] // each.shape[-3], -3) for each in (key, value))
    scores = query @ key.transpose(-2, -1) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if is_causal:
        shape = (query.shape[-2], key.shape[-2])
        scores = scores.masked_fill(~torch.ones(shape, dtype=torch.bool, device=query.device).tril(), -torch.inf)
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, -torch.inf) if attn_mask.dtype == torch.bool else scores + attn_mask
    matrix = scores.softmax(-1)
    return matrix @ value, matrix
