from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from toys import noise_folder

from atlas.cli import app, main
from atlas.commands.network import Network, takes_network

NET = """
from torch import nn
def make():
    print("building")
    return nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
"""
TOML = 'network = "cli_net.py:make"\nsize = 16\nmean = [0.5, 0.5, 0.5]\nstd = [1, 1, 1]\n'
COMMANDS: Any = typer.main.get_command(app)
# Those that look at no network, or name what they look at without an option.
WITHOUT = {"open", "models"}
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """`atlas` with arguments, in this process: the exit code, standard output and standard error."""

    def atlas(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["atlas", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return atlas


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "cli_net.py").write_text(NET)
    (tmp_path / "names.txt").write_text("cat\ndog\nowl\n")
    (tmp_path / "model.toml").write_text(TOML)
    noise_folder(tmp_path / "images", 6)
    monkeypatch.chdir(tmp_path)
    path = list(sys.path)
    yield tmp_path
    sys.path[:] = path
    sys.modules.pop("cli_net", None)


@pytest.mark.parametrize("name", sorted(set(COMMANDS.commands) - WITHOUT))
def test_every_command_takes_a_network_and_how_images_enter_it(name: str) -> None:
    options = [set(each.opts) for each in COMMANDS.commands[name].params]
    known = set().union(*options)
    assert {"--model", "--weights", "--input-size", "--mean", "--std", "--interpolation", "--crop", "--labels"} <= known
    assert sum("--size" in each for each in options) == 1  # the network's, where the command has none of its own


def test_the_options_reach_the_network_and_notes_are_told_once_beside_the_result(home: Path, run: Run) -> None:
    code, out, err = run("layers", "cli_net.py:make", "--size", "32x16", "--json")
    assert code == 0
    first = json.loads(out)[0]
    assert (first["rows"], first["columns"]) == (16, 8)
    assert err.count("note: mean, std of cli_net.py:make are not stated") == 1
    code, out, err = run("models", "model.toml", "--json")
    assert json.loads(out)["size"] == "16 x 16"
    assert "note" not in err
    for words, said in (
        (("--size", "12x"), "--input-size takes pixels"),
        (("--mean", "a,b,c"), "--mean takes numbers"),
        (("--interpolation", "bicubicc"), "the closest are 'bicubic'"),
        (("--crop", "1.5"), "--crop is a share"),
        (("--labels", "absent.txt"), "no file of labels"),
        (("--model", "efficientnet_lite1"), "name two networks"),
    ):
        code, _, err = run("layers", "cli_net.py:make", *words)
        assert (code, said in " ".join(err.split())) == (1, True), err


def test_a_folder_made_with_another_mean_or_other_names_is_refused(home: Path, run: Run) -> None:
    torch.manual_seed(0)
    words = ("exemplars", "1", "--model", "model.toml", "--images", "images", "--out", "out", "-k", "2", "--quiet")
    assert run(*words, "--workers", "0")[0] == 0
    manifest = json.loads((home / "out" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["identity"]["preprocess"]["size"] == [16, 16]
    assert run(*words)[0] == 0  # the same again: the network's random weights are the same, too
    code, _, err = run(*words, "--mean", "0.4,0.5,0.5")
    assert code == 1
    assert "made with other settings (mean was" in " ".join(err.split())
    code, _, err = run(*words, "--labels", "names.txt")
    assert code == 1
    assert "made with other settings" in " ".join(err.split())


def test_an_error_in_the_network_s_file_is_one_paragraph_and_a_traceback_with_debug(home: Path, run: Run) -> None:
    (home / "cli_net.py").write_text("def make():\n    return 1 / 0\n")
    code, _, err = run("layers", "cli_net.py:make")
    assert code == 1
    assert "cli_net.py:2: ZeroDivisionError: division by zero" in " ".join(err.split())
    assert "Traceback" not in err


def test_the_options_stand_where_the_command_has_its_network() -> None:
    @takes_network
    def command(first: int, network: Network = Network(), last: int = 3) -> None:  # noqa: B008
        seen.append((first, network, last))

    seen: list[Any] = []
    plain = {"model": "a", "weights": None, "mean": "0.5", "std": None, "interpolation": None, "crop": None}
    command(first=1, last=2, input_size="8x9", labels=None, **plain)
    assert seen == [(1, Network("a", None, {"size": (8, 9), "mean": (0.5,)}, True), 2)]


def test_the_list_of_layers_cuts_no_name_and_says_once_why_some_hold_no_map(home: Path, run: Run) -> None:
    long = "a_name_of_a_layer_that_is_longer_than_a_terminal_is_wide_" * 2
    (home / "cli_net.py").write_text(
        "import torch\nfrom torch import nn\n"
        "class Heads(nn.Module):\n"
        "    def forward(self, x):\n"
        "        return x.flatten(2).transpose(1, 2).unflatten(2, (2, 2)).transpose(1, 2)\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        f"        self.{long} = nn.Conv2d(3, 4, 4, 4)\n"
        "        self.one, self.two, self.norm, self.head = Heads(), Heads(), nn.LayerNorm(4), nn.Linear(4, 3)\n"
        "    def forward(self, x):\n"
        f"        maps = self.{long}(x)\n"
        "        self.one(maps), self.two(maps)\n"
        "        return self.head(self.norm(maps.flatten(2).transpose(1, 2)).mean(1))\n"
        "make = Net\n"
    )
    _, out, _ = run("layers", "--model", "cli_net.py:make", "--size", "16x32")
    assert long in out
    assert out.count("not read (1)") == 2
    assert out.count("as the heads of attention do") == 1


def test_labelled_photographs_tell_names_in_another_order(home: Path, run: Run) -> None:
    rng = np.random.default_rng(0)
    for name, level in (("dark", 80), ("bright", 180)):
        (home / "photos" / name).mkdir(parents=True)
        for number in range(8):
            pixels = np.clip(rng.normal(level, 9, (12, 12, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(home / "photos" / name / f"{number}.png")
    (home / "cli_net.py").write_text(
        "import torch\nfrom torch import nn\n"
        "def make():\n"
        "    head = nn.Linear(3, 2)\n"
        "    with torch.no_grad():\n"
        "        head.weight.copy_(torch.tensor([[-9.0] * 3, [9.0] * 3]))\n"
        "        head.bias.zero_()\n"
        "    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)\n"
    )
    how = ("--model", "cli_net.py:make", "--size", "12", "--mean", "0.5,0.5,0.5", "--std", "0.5,0.5,0.5")
    for names, share, told in (("dark\nbright", 1.0, "nothing looks wrong"), ("bright\ndark", 0.0, "another order")):
        (home / "two.txt").write_text(names)
        given = ("check", *how, "--labels", "two.txt", "--images", "./photos", "--quiet")
        code, out, _ = run(*given)
        assert code == 0
        assert told in out
        assert json.loads(run(*given, "--json")[1])["accuracy"] == share
