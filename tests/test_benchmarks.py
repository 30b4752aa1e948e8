"""The benchmarks run, each apart, and their page says what happened."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from datetime import date
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
BENCHMARKS = ROOT / "benchmarks"


def _script(name: str, *arguments: str, first: Path | None = None) -> subprocess.CompletedProcess[str]:
    """A benchmark in a process of its own; first: a folder whose modules come before those that are installed."""
    places = [str(first)] if first else []
    path = os.pathsep.join([*places, str(ROOT), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, str(BENCHMARKS / f"{name}.py"), *arguments]
    return subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)


def _module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where its dataclasses look for their module
    spec.loader.exec_module(module)
    return module


def _stub(folder: Path, *packages: str) -> Path:
    for package in packages:
        (folder / package).mkdir(parents=True)
        (folder / package / "__init__.py").write_text("raise ImportError('broken on purpose')\n", encoding="utf-8")
    return folder


# The families of networks are gone through in so many days: all of them in one run would take longer than all else.
_TURNS = 6


def test_todays_families_of_networks_are_read_as_a_plain_hook_reads_them() -> None:
    turn = date.today().toordinal() % _TURNS + 1
    checks = [word for check in ("default", "read", "head") for word in ("--check", check)]
    done = _script("families", "--part", f"{turn}/{_TURNS}", *checks)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(done.stdout.splitlines()) >= 16


def test_a_page_and_the_raw_figures_come_of_a_quick_run(noise_images: Path, tmp_path: Path) -> None:
    page, raw = tmp_path / "docs" / "benchmarks.md", tmp_path / "raw.json"
    options = ("--images", str(noise_images), "--out", str(page), "--json", str(raw))
    ran = _script("run", "--quick", "--only", "ald", "--only", "effects", *options)
    assert ran.returncode == 0, ran.stderr
    text = page.read_text(encoding="utf-8")
    for word in ("## ald", "## effects", "| torch | ", "| torch-lucent | ", "| umap-learn | ", "| images | noise"):
        assert word in text
    assert "## Failed" not in text
    assert "The figures say nothing" in text
    outcomes = {outcome["name"]: outcome["figures"] for outcome in json.loads(raw.read_text(encoding="utf-8"))}
    assert outcomes["ald"]["terminal sets that differ"] == 0
    assert outcomes["effects"]["layers"]["blocks.6"]["derivative right"] >= 0


def test_what_fails_and_what_is_missing_is_named_and_costs_the_others_nothing(tmp_path: Path) -> None:
    stubs, page = _stub(tmp_path / "stubs", "dreamlens"), tmp_path / "page.md"
    chosen = [word for name in ("atlases", "effects", "ald") for word in ("--only", name)]
    ran = _script("run", "--quick", *chosen, "--images", str(tmp_path / "nowhere"), "--out", str(page), first=stubs)
    assert ran.returncode == 1, ran.stderr
    done, rest = page.read_text(encoding="utf-8").split("## Failed")
    failed, left_out = rest.split("## Left out")
    assert "## ald" in done
    assert "## effects" not in done
    assert "`effects`: exit code 1:" in failed
    assert "nowhere' does not exist" in failed
    assert "atlases" not in done + failed
    # Where it is not installed at all, it is that.
    assert "`atlases`: dreamlens cannot be imported: broken on purpose" in left_out or "not installed" in left_out


def test_a_peer_that_wins_is_said_to_win() -> None:
    verdicts = _module("verdicts")
    lost = verdicts.faster("maps", 3.0, {"captum": 6.0, "captum, helped": 1.5})
    assert lost.winner == "captum (helped)"
    assert lost.sentence == "maps: captum (helped) wins, 2.0 times as fast as activation-atlas."
    won = verdicts.faster("maps", 1.0, {"captum": 22.4, "other": 40.0})
    assert won.sentence == "maps: activation-atlas wins, 22 times as fast as captum."
    assert verdicts.faster("maps", 1.0, {"captum": 1.02}).winner == "a draw"
    assert verdicts.faster("maps", 1.0, {}).sentence == "maps: no peer took part."
    assert verdicts.higher("score", 0.4, {"dreamlens": 0.5, "other": 0.1}).winner == "dreamlens"
    assert verdicts.higher("score", 0.6, {"dreamlens": 0.5}).winner == "activation-atlas"
    assert verdicts.higher("score", -0.1, {"dreamlens": -0.2}).winner == "activation-atlas"
    assert verdicts.higher("score", 0.500, {"dreamlens": 0.505}).winner == "a draw"


@pytest.mark.slow
def test_the_gpu_benchmark_runs_on_a_processor_just_so() -> None:
    tiny = "--count 4 --batch 2 --workers 0 --side 32 --steps 2 --chunk 2 --blocks 1 --repeats 1 --precisions float32"
    ran = _script("gpu", "--device", "cpu", *tiny.split())
    assert ran.returncode == 0, ran.stderr
    found: dict[str, Any] = json.loads(ran.stdout)["precisions"]["float32"]
    assert set(found["images"]) == {"bare", "consumer", "scan"}
    assert set(found["icons"]) == {"bare", "maximize", "draw_icons"}
    assert all(row["per_second"] > 0 for part in ("images", "icons") for row in found[part].values())


@pytest.mark.slow
def test_a_large_atlas_is_killed_finished_and_weighed(noise_images: Path) -> None:
    ran = _script("large", str(noise_images), *"--count 24 --samples 96 --grid 2 --steps 2".split())
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert found["finished"]
    assert found["peak MB"] > 100
    assert found["killed at"] >= 6
    assert {"drawing icons", "writing"} <= set(found["stages"])


def test_a_bar_that_goes_steadily_is_true_and_one_that_slows_down_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    large = _module("large")
    steady = [large.Told(2.0 * number, "scan", number, 100) for number in range(101)]
    found = large.judged(steady)
    assert found["seconds"] == 200
    assert found["within tolerance"] == 1
    assert found["worst miss"] < 0.05
    slower = [large.Told(number**3 / 1000, "scan", number, 100) for number in range(101)]
    assert large.judged(slower)["within tolerance"] < 0.5


@pytest.mark.slow
def test_maps_equal_those_of_captum_and_torchcam_within_rounding() -> None:
    pytest.importorskip("captum")
    pytest.importorskip("torchcam")
    ran = _script("attributions", *"photos --count 1 --window 112 --steps 4 --repeats 1".split())
    assert ran.returncode == 0, ran.stderr
    methods = json.loads(ran.stdout)["methods"]
    assert set(methods) >= {"occlusion", "integrated", "guided", "deconv", "gradcam", "cam"}
    for method, rows in methods.items():
        if method not in ("gradcampp", "smoothgradcampp"):  # see the page's notes
            for contender, row in rows.items():
                # Along a path, rounding of the network as it came may cross the kink of a rectifier that ours does not.
                crossed = method == "integrated" and contender == "captum"
                assert row["largest_difference"] < (1e-2 if crossed else 1e-4), (method, contender)


def test_observers_get_sheets_without_the_key_and_their_answers_are_marked(noise_images: Path, tmp_path: Path) -> None:
    sheets, key, drawn = tmp_path / "sheets", tmp_path / "elsewhere" / "key.json", tmp_path / "drawn"
    more = ("--key", str(key), "--images", str(noise_images), "--test", "choice", "--test", "naming", "--steps", "2",
            "--layer", "blocks.1", "--channels", "3", "--classes", "2", "--maker", "ours", "--maker", "photographs",
            "--drawn", str(drawn))  # fmt: skip
    ran = _script("observers", "write", str(sheets), *more)
    assert ran.returncode == 0, ran.stderr
    wanted = json.loads(key.read_text(encoding="utf-8"))
    assert sorted((own["test"], own["maker"]) for own in wanted.values()) == [
        ("choice", "ours blocks.1"),
        ("choice", "photographs blocks.1"),
        ("naming", "ours"),
    ]
    words = " ".join(file.read_text(encoding="utf-8") for file in sheets.rglob("*.md"))
    assert not any(word in words for word in ("blocks", "ours", "photographs blocks"))
    assert {file.suffix for file in sheets.rglob("*.*")} == {".md", ".png"}
    right = {letter: dict(enumerate(own["answers"], 1)) for letter, own in wanted.items()}
    wrong = {letter: {number: 3 - answer for number, answer in own.items()} for letter, own in right.items()}
    for name, given in (("knows", right), ("errs", wrong)):
        (tmp_path / f"{name}.json").write_text(json.dumps(given), encoding="utf-8")
    marked = _script("observers", "mark", str(key), *(str(tmp_path / f"{name}.json") for name in ("knows", "errs")))
    rows = {row["maker"]: row for row in json.loads(marked.stdout)}
    assert rows["ours blocks.1"]["right"] == {"knows": 3, "errs": 0}
    assert (rows["ours blocks.1"]["mean"], rows["ours blocks.1"]["of"]) == (1.5, 3)
    assert rows["ours blocks.1"]["interval"] == [0.188, 0.812]  # Wilson's, of 3 of 6 answers
    assert _script("observers", "write", str(sheets), "--key", str(sheets / "key.json"), *more[2:]).returncode != 0
