from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from click.testing import Result
from PIL import Image
from toys import noise_folder
from typer.testing import CliRunner

import atlas
from atlas.cli import app
from atlas.explorer import read_book
from featviz.errors import UserError

SMALL = ["--samples", "80", "--per-image", "4", "--steps", "1", "--icon", "16", "--quiet"]


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of noise, all labelled with a class, so that views of it that are taken for something else are many."""
    folder = noise_folder(tmp_path_factory.mktemp("images"), 20)
    with (folder / "labels.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["file", "class_index"])
        writer.writerows([[file.name, 281] for file in sorted(folder.glob("*.png"))])
    return folder


def _run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(each) for each in arguments])


def test_compare_takes_the_activations_of_an_atlas_and_draws_all_that_it_promises(
    labelled: Path, tmp_path: Path
) -> None:
    common = ["--images", labelled, *SMALL]
    built = _run("build", "blocks.6", *common, "--grid", "2", "--reducer", "pca", "--min-count", "1", "--out",
                 tmp_path / "base", "--class", "tabby")  # fmt: skip
    assert built.exit_code == 0, built.output
    assert (tmp_path / "base" / "class-tabby.png").is_file()
    done = _run("compare", "blocks.6", "tabby", "Egyptian cat", *common, "--from", tmp_path / "base", "--count", 30,
                "--grid", 2, "--gradient", 2, "--reducer", "pca", "--json", "--out", tmp_path / "out")  # fmt: skip
    assert done.exit_code == 0, done.output
    manifest = json.loads(done.stdout)
    assert [entry["name"] for entry in manifest["classes"]] == ["tabby", "Egyptian cat"]
    assert len(manifest["conclusion"]) == 2
    for name in ("atlas.png", "classes.png", "telling.png", "left/cells.json", "right/store", "icons/level-2.png"):
        assert (tmp_path / "out" / name).exists()
    maps = read_book(tmp_path / "out" / "index.html").manifest["maps"]
    # Each class's activations are among the gradient's: their cells are linked.
    assert all("0" in each["levels"][0]["flow"] for each in maps[1:])
    assert {"1", "2"} <= set(maps[0]["levels"][0]["flow"])
    again = _run("compare", "blocks.6", "tabby", "tiger cat", *common, "--count", 30, "--out", tmp_path / "out")
    assert isinstance(again.exception, UserError)
    assert "made with other settings" in str(again.exception)


def test_a_patch_is_tested_from_the_command_line_or_what_is_missing_is_said(labelled: Path, tmp_path: Path) -> None:
    Image.new("RGB", (30, 30), "red").save(tmp_path / "red.png")
    common = [
        "--images",
        labelled,
        "--patch",
        tmp_path / "red.png",
        "--views",
        "4",
        "--quiet",
        "--out",
        tmp_path / "out",
    ]
    done = _run("patch", "tabby", "Egyptian cat", *common)
    assert isinstance(done.exception, UserError)
    assert "not one of 4 views labelled 'tabby' is classified so" in str(done.exception)
    wrong = _run("patch", "tabby", "Egyptian cat", *common, "--sizes", "much")
    assert "--sizes takes numbers with commas, such as 0.2,0.4" in str(wrong.exception)


@pytest.mark.slow
def test_two_layers_are_aligned_from_the_command_line(labelled: Path, tmp_path: Path) -> None:
    done = _run(
        "align", "blocks.4", "blocks.5", "--images", labelled, *SMALL, "--grid", "2", "--json", "--out", tmp_path
    )
    assert done.exit_code == 0, done.output
    manifest = json.loads(done.stdout)
    assert 0 <= manifest["near_by_chance"] <= 1
    assert (tmp_path / "atlas.png").is_file()
    maps = read_book(tmp_path / "index.html").manifest["maps"]
    assert [list(each["levels"][0]["flow"]) for each in maps] == [["1"], ["0"]]
    assert atlas.load(tmp_path).settings.layer == "blocks.4"
