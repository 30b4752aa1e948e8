"""Class and register tokens: what stands before the patches' tokens, read as a layer of one place.

The address `blocks.5@cls` is that layer's class token, `blocks.5@register0` its first register; a unit there is written
`blocks.5:12@cls`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ..errors import UserError
from .layers import split_token
from .layout import Layout

_NAMES = ("cls_token", "class_token", "class_embedding")


def is_token(place: str | None) -> bool:
    """Whether a unit's place is a token before the patches'."""
    return place is not None and re.fullmatch(r"cls|register\d{1,3}", place) is not None


def at_token(layers: Sequence[str], token: str) -> list[str]:
    """The addresses of these layers' token."""
    return [f"{layer}@{token}" for layer in layers]


@dataclass(frozen=True)
class TokenLayout(Layout):
    """How a layer's output holds one of the tokens before the patches': `token` of the `prefix`, from 0."""

    token: int = 0

    def maps(self, output: Any) -> Tensor:
        """The token as (n, c, 1, 1)."""
        return self.beside(output)[:, :, self.token, None, None]


def of_token(layout: Layout, network: nn.Module, address: str) -> Layout:
    """The layout as it is, or where the address names a token, that token's.

    Raises `UserError` where the layer has no such token.
    """
    layer, token = split_token(address)
    if not token or address in dict(network.named_modules()):
        return layout
    names = token_names(network, layout.prefix)
    if token not in names:
        has = f"the tokens before its patches are {', '.join(names)}" if names else "it has none before its patches"
        raise UserError(f"layer {layer!r} has no token {token!r}: {has}.")
    return TokenLayout(**vars(layout), token=names.index(token))


def token_names(network: nn.Module, prefix: int) -> list[str]:
    """What the `prefix` tokens before the patches' are called: cls where there is a class token, then register0, ..."""
    registers = max(prefix - _class_tokens(network), 0)
    return ["cls"] * (prefix > registers) + [f"register{number}" for number in range(registers)]


def _class_tokens(network: nn.Module) -> int:
    """How many class tokens stand first: none where the network says so, else one."""
    said = [getattr(module, name) for module in network.modules() for name in _NAMES if hasattr(module, name)]
    return 0 if said and all(each is None for each in said) else 1
