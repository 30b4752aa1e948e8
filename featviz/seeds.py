"""Random numbers that depend on a seed and a name alone."""

from __future__ import annotations

import hashlib

import torch


def generator_for(seed: int, key: str, attempt: int = 0) -> torch.Generator:
    """A CPU generator whose draws depend on its three arguments alone."""
    digest = hashlib.sha256(f"{seed}/{attempt}/{key}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "little"))
