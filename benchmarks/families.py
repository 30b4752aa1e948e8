"""Every family of timm's and torchvision's classifiers with random weights: is it read, drawn and explained rightly?

One small member of each family, which families.json keeps (`--weigh` chooses them anew, in minutes). Writes
docs/families.md; two parts can run side by side:

    python benchmarks/families.py --part 1/2 --out docs/families.md
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import timm
import torch
import torchvision
from family_checks import CHECKS, Refused
from torch import nn

from featviz import Model
from featviz.network.zoo import builder

# The largest images, in pixels of a side, and weights, in millions, of what counts as small.
_MOST_PIXELS, _MOST_WEIGHTS = 300, 140
# What names of small members say, the smallest first; so many of a family are weighed.
_SMALL = (
    "test", "zepto", "atto", "femto", "pico", "nano", "xxs", "xxtiny", "xxsmall", "tiny", "xs", "xtiny", "mini", "050",
    "035", "x0_5", "0_5", "small", "_t", "_s", "_b0", "_0", "_a0", "18", "26", "_xs", "_n", "50",
)  # fmt: skip
_WEIGHED = 4
_CHOSEN = Path(__file__).with_name("families.json")


@dataclass(frozen=True)
class Row:
    """A family: its `member`, `layer` that was looked at, what each check said ('' for passed), seconds it took."""

    family: str
    member: str
    layer: str
    found: dict[str, str]
    seconds: float


def members() -> Iterator[tuple[str, str]]:
    """(family, its smallest member): of timm by the file that defines it, of torchvision likewise."""
    yield from (
        (f"timm {family}", f"timm/{name}")
        for family, name in _smallest(
            timm.list_modules(), lambda family: timm.list_models(module=family), lambda name: timm.create_model(name)
        )
    )
    models = torchvision.models
    names = models.list_models(module=models)
    files: dict[str, list[str]] = {}
    for name in names:
        files.setdefault(models.get_model_builder(name).__module__.rpartition(".")[2], []).append(name)

    def build(name: str) -> nn.Module:
        more = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
        return models.get_model(name, weights=None, **more)

    yield from (
        (f"torchvision {family}", f"torchvision/{name}")
        for family, name in _smallest(sorted(files), lambda family: files[family], build)
    )


def _smallest(
    families: Sequence[str], names: Callable[[str], list[str]], build: Callable[[str], nn.Module]
) -> Iterator[tuple[str, str]]:
    for family in families:
        sizes: dict[str, int] = {}
        for name in sorted(names(family), key=_guessed)[:_WEIGHED]:
            try:
                with torch.device("meta"), warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    network = build(name)
            except Exception:  # some cannot be built without memory
                continue
            side = max(getattr(network, "default_cfg", {}).get("input_size", (3, 224, 224))[1:])
            if side <= _MOST_PIXELS:
                sizes[name] = sum(weight.numel() for weight in network.parameters())
        if sizes and min(sizes.values()) < _MOST_WEIGHTS * 1e6:
            yield family, min(sizes, key=lambda name: sizes[name])


def _guessed(name: str) -> tuple[int, int]:
    """What names of small members come first by."""
    return next((place for place, word in enumerate(_SMALL) if word in name), len(_SMALL)), len(name)


def checked(family: str, name: str, checks: Sequence[str] = tuple(CHECKS)) -> Row:
    """What every check, or some of them, says of a member with random weights."""
    started = time.perf_counter()
    torch.manual_seed(0)
    layer, found = "", dict.fromkeys(checks, "not reached")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model: Model = builder(name)(False).to("cpu")
            _enliven(model)
            layer = model.default_layer or ""
            for check in checks:
                found[check] = _said(CHECKS[check], model, layer)
    except Exception as error:
        found = dict.fromkeys(found, f"{type(error).__name__}: {error}")
    return Row(family, name, layer, found, time.perf_counter() - started)


def _enliven(model: Model) -> None:
    """Let norms of a batch learn noise's mean and deviation: random weights leave nothing of it after thirty blocks."""
    norms = [module for module in model.network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    images = torch.rand(
        4, model.preprocess.channels, *model.preprocess.size, generator=torch.Generator().manual_seed(0)
    )
    for norm in norms:
        norm.train()
        norm.momentum = None
    with torch.no_grad():
        model.network(model.preprocess.normalize(images))
    model.network.eval()


def _said(run: Callable[[Model, str], None], model: Model, layer: str) -> str:
    try:
        run(model, layer)
    except Refused as error:
        return f"refused: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return ""


def page(rows: Sequence[Row]) -> str:
    """The table as a page."""
    whole = [row for row in rows if all(said == "" or said.startswith("refused") for said in row.found.values())]
    lines = [
        "# Families of networks",
        "",
        "What `benchmarks/families.py` found: one small member of every family of classifiers in timm and torchvision, "
        "with random weights (norms of a batch know noise's mean and deviation), read at its default layer. "
        f"{len(whole)} of {len(rows)} pass or are refused with a reason.",
        "",
        "- **default**: a layer is looked at where nobody names one, and it has a map.",
        "- **read**: what is read at the layer is what a plain hook sees, and a quarter of the image that changes "
        "shows in that quarter of the map.",
        "- **drawn**: sixteen steps take a picture above the first (without views: what random weights like is fine "
        "noise).",
        "- **effects**: what a class loses is what the network itself gives with the activation changed by a hook.",
        "- **head**: the classifier is the one that the network names.",
        "",
        f"| family | member | layer | {' | '.join(CHECKS)} |",
        f"| --- | --- | --- | {' | '.join('---' for _ in CHECKS)} |",
    ]
    notes: dict[str, list[str]] = {}
    for row in sorted(rows, key=lambda row: row.family):
        cells = []
        for check in CHECKS:
            if said := row.found[check]:
                notes.setdefault(f"`{row.member}`: {said}", []).append(check)
                number = list(notes).index(f"`{row.member}`: {said}") + 1
                cells.append(f"{'refused' if said.startswith('refused') else '**no**'} [{number}]")
            else:
                cells.append("yes")
        lines.append(f"| {row.family} | `{row.member}` | `{row.layer}` | {' | '.join(cells)} |")
    if notes:
        lines += ["", "## Why not", "", *(f"{number}. {note}" for number, note in enumerate(notes, 1))]
    lines += ["", f"Made with torch {torch.__version__.partition('+')[0]}, timm {timm.__version__} and torchvision "
              f"{torchvision.__version__.partition('+')[0]}."]  # fmt: skip
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", default="1/1", help="which part of the families, such as 1/3")
    parser.add_argument("--only", default="", help="families whose names contain this")
    parser.add_argument("--check", action="append", choices=tuple(CHECKS), help="default: all")
    parser.add_argument("--weigh", action="store_true", help="choose the smallest member of each family anew")
    parser.add_argument(
        "--out", type=Path, default=None, help="the page; a file beside it keeps what other parts found"
    )
    given = parser.parse_args()
    number, parts = map(int, given.part.split("/"))
    if given.weigh:
        _CHOSEN.write_text(json.dumps(dict(members()), indent=1) + "\n", encoding="utf-8")
    chosen = json.loads(_CHOSEN.read_text(encoding="utf-8"))
    every = [pair for pair in chosen.items() if given.only in pair[0]]
    kept = None if given.out is None else given.out.with_suffix(f".part{number}.jsonl")
    done = set[str]()
    if kept is not None and kept.is_file():
        done = {json.loads(line)["family"] for line in kept.read_text(encoding="utf-8").splitlines()}
    failed = False
    for family, name in every[number - 1 :: parts]:
        if family in done:
            continue
        row = checked(family, name, given.check or tuple(CHECKS))
        failed |= any(said and not said.startswith("refused") for said in row.found.values())
        print(
            family,
            name,
            row.layer,
            f"{row.seconds:.1f} s",
            {k: v for k, v in row.found.items() if v} or "passed",
            flush=True,
        )
        if kept is not None:
            with kept.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(row)) + "\n")
    if given.out is not None:
        rows = [
            Row(**json.loads(line))
            for part in sorted(given.out.parent.glob(f"{given.out.stem}.part*.jsonl"))
            for line in part.read_text(encoding="utf-8").splitlines()
        ]
        given.out.write_text(page(rows), encoding="utf-8")
    sys.exit(int(failed))


if __name__ == "__main__":
    main()
