from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from toys import noise_folder

from atlas.cli import Stopped, main
from featviz.errors import UserError

SMALL = [
    "--grid", "2,4", "--icon", "16", "--steps", "2", "--samples", "96", "--per-image", "4", "--min-count", "2",
    "--reducer", "pca", "--device", "cpu",
]  # fmt: skip


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


Command = Callable[..., Done]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """`atlas` with arguments, in this process: its own would spend most of its time on importing torch."""

    def atlas(*arguments: str | Path) -> Done:
        monkeypatch.setattr(sys, "argv", ["atlas", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return Done(int(ended.value.code or 0), said.out, said.err)

    return atlas


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Options for a small timm network with weights of our own."""
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("weights") / "resnet.safetensors"
    save_file(timm.create_model("test_resnet", pretrained=False).state_dict(), file)
    return ["--model", "timm/test_resnet", "--weights", str(file)]


@pytest.mark.parametrize("kind", [SystemError, UserError, PermissionError])
def test_a_stop_is_told_whatever_a_library_makes_of_it(
    kind: type[Exception], run: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(standalone_mode: bool) -> None:
        try:
            raise Stopped(signal.SIGTERM)
        except Stopped as error:
            raise kind("a library's own") from error

    monkeypatch.setattr("atlas.cli.app", stopped)
    done = run("build", "--overwrite", "--out", "a b")
    assert done.returncode == 128 + signal.SIGTERM
    assert "stopped by SIGTERM; to go on from here: atlas build --overwrite --out 'a b'" in done.stderr


def test_what_is_odd_about_labels_is_told_before_the_work(run: Command, tmp_path: Path, weights: list[str]) -> None:
    folder = noise_folder(tmp_path / "images", 4)
    (folder / "labels.csv").write_text("file,class_index\n000.png,3\n001.png,5000\ngone.png,1\n")
    done = run("exemplars", "layer2", *weights, "--images", folder, "--out", tmp_path / "x y", "--device", "cpu")
    assert done.returncode == 0
    said = " ".join(done.stderr.split())
    assert "note: labels.csv names 1 file(s) that are not there, such as 'gone.png'" in said
    assert (
        "note: 1 image(s) are of classes that the network does not have (it has 1000), such as 5000 of '001.png'"
        in said
    )
    assert said.index("note:") < said.index("reading images")
    assert said.endswith(f"open '{tmp_path / 'x y' / 'index.html'}'")


def test_vectors_in_the_memory_of_one_command_are_refused(run: Command, tmp_path: Path, weights: list[str]) -> None:
    done = run("build", "layer2", *weights, "--store", "memory://x", "--out", tmp_path / "x")
    assert done.returncode == 1
    assert "would be gone with it" in done.stderr
    assert not (tmp_path / "x").exists()


def test_build_writes_the_whole_folder_and_reports_as_json(
    run: Command, noise_images: Path, tmp_path: Path, weights: list[str]
) -> None:
    done = run("build", "layer2", *weights, "--images", noise_images, "--out", tmp_path / "x", "--json", *SMALL)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["model"] == "timm/test_resnet"
    assert report["settings"]["grid"] == [2, 4]
    names = {path.relative_to(tmp_path / "x").as_posix() for path in (tmp_path / "x").rglob("*") if path.is_file()}
    assert {"atlas.png", "atlas-4.png", "cells.json", "images.json", "index.html", "manifest.json"} <= names
    assert {"icons/level-2.png", "icons/level-4.png"} <= names
    assert "drawing icons" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["build", "--model", "resnet5"], "closest are 'timm/resnet50'"),
        (["build", "--images", "no-such-folder"], "'no-such-folder' does not exist"),
        (["build", "--grid", "ten"], "--grid takes numbers with commas"),
        (["build", "classifier"], "has no spatial positions"),
        (["build", "block.5"], "the closest are 'blocks.5'"),
        (["layers", "resnet5"], "closest are 'timm/resnet50'"),
    ],
)
def test_an_error_is_one_paragraph_without_a_traceback_and_exits_with_1(
    run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(*arguments, *(["--out", str(tmp_path / "x")] if arguments[0] == "build" else []))
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert not (tmp_path / "x").exists()


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from atlas.cli import main; main()", "build", "--model", "resnet5", "--debug"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd=tmp_path)
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_wrong_use_exits_with_2(run: Command) -> None:
    assert run("build", "--no-such-option").returncode == 2
    assert run("biuld").returncode == 2


def test_help_teaches(run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    done = run("build", "--help")
    assert done.returncode == 0
    assert "Example: atlas build blocks.5" in done.stdout
    assert "manifest.json" in done.stdout


def test_layers_and_models_list_what_there_is(run: Command) -> None:
    rows = json.loads(run("layers", "efficientnet_lite0", "--json").stdout)
    found = {row["layer"]: row for row in rows}
    assert (found["blocks.5"]["channels"], found["blocks.5"]["rows"], found["blocks.5"]["columns"]) == (192, 7, 7)
    assert found["classifier"]["channels"] == 1000
    names = run("models", "lite0").stdout.split()
    assert "efficientnet_lite0" in names
    assert all("lite0" in name for name in names)


def test_quiet_prints_nothing(run: Command, noise_images: Path, tmp_path: Path, weights: list[str]) -> None:
    done = run("build", "layer2", *weights, "--images", noise_images, "--out", tmp_path / "x", "--quiet", *SMALL)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_render_takes_units_with_a_minus_anywhere_and_still_knows_its_options(
    run: Command, tmp_path: Path, weights: list[str]
) -> None:
    quick = ["--size", "32", "--steps", "2", "--device", "cpu"]
    done = run("render", "layer2:0-1", "-layer2:3", *weights, "--out", tmp_path / "x", "--json", *quick)
    assert done.returncode == 0, done.stderr
    assert [entry["unit"] for entry in json.loads(done.stdout)] == ["layer2:0", "layer2:1", "-layer2:3"]
    wrong = run("render", "layer2:0", "--stepz", "3", *weights, "--out", tmp_path / "y", *quick)
    assert wrong.returncode == 2
    assert "--stepz" in wrong.stderr


def test_exemplars_writes_its_folder_and_reports_as_json(
    run: Command, noise_images: Path, tmp_path: Path, weights: list[str]
) -> None:
    done = run(
        "exemplars", "layer1", *weights, "--images", noise_images, "--out", tmp_path / "x", "-k", "2", "--json",
        "--units", "layer1:1", "--device", "cpu", "--diverse", "images", "--part", "2/3", "--matrix",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["settings"] == {"k": 2, "reduce": "max", "diverse": "images"}
    done = run("exemplars", "layer1", *weights, "--images", noise_images, "--out", tmp_path / "y", "--part", "2of3")
    assert done.returncode == 1
    assert "--part takes a part such as 2/3" in done.stderr
    assert not (tmp_path / "y").exists()
    assert (tmp_path / "x" / "units" / "layer1_1.png").is_file()
    wrong = run("exemplars", "layerX", *weights, "--images", noise_images, "--out", tmp_path / "y")
    assert wrong.returncode == 1
    assert "no layer 'layerX'" in wrong.stderr
