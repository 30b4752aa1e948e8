"""Trials -> numbered sheets and a question each for blind observers, and the key elsewhere."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from featviz.seeds import generator_for

# Trials on a sheet, and the height of a picture on it.
PER_SHEET, TILE = 5, 190
QUESTIONS = {
    "choice": "Each row is a task of its own. On the left, under +, is what excites one detector in a vision network; "
    "under -, what inhibits the same detector. On the right are two photographs, 1 and 2. Which of them excites the "
    "detector more? Answer 1 or 2, always, even where you have to guess.",
    "naming": "Each picture is a computer's idea of one kind of thing. Which of the forty names fits best? Each name "
    "is used at most once. Answer with the name's number.",
    "icons": "Each row is a task of its own. On the left is a computer's drawing of what a detector looks for. On the "
    "right are cuttings of two photographs, 1 and 2. Which of them fits the drawing better? Answer 1 or 2, always.",
}


@dataclass(frozen=True)
class Trial:
    """One task: what stands on the left, what is asked, and the right answer."""

    maker: str
    test: str
    subject: str
    answer: int
    left: Tensor  # pictures (n, 3, h, w) in [0, 1], in the order in which they are shown
    right: Tensor


def write(trials: Sequence[Trial], names: Sequence[str], folder: Path, key: Path, seed: int) -> None:
    """Sheets of trials in random order, a folder for each maker under a letter, and the key in a file elsewhere."""
    makers = sorted({(trial.test, trial.maker) for trial in trials})
    order = torch.randperm(len(makers), generator=generator_for(seed, "letters")).tolist()
    answers: dict[str, Any] = {}
    for letter, place in zip("ABCDEFGHIJKLMNOP", order, strict=False):
        test, maker = makers[place]
        own = [trial for trial in trials if (trial.test, trial.maker) == (test, maker)]
        mixed = torch.randperm(len(own), generator=generator_for(seed, f"trials of {maker} {test}")).tolist()
        own = [own[number] for number in mixed]
        (folder / letter).mkdir(parents=True, exist_ok=True)
        per_sheet = PER_SHEET * 4 if test == "naming" else PER_SHEET
        for start in range(0, len(own), per_sheet):
            picture = (_gallery if test == "naming" else _rows)(own[start : start + per_sheet], start + 1)
            picture.save(folder / letter / f"sheet-{start // per_sheet + 1}.png")
        question = QUESTIONS[test]
        if test == "naming":
            question += "\n\n" + "\n".join(f"{number}. {name}" for number, name in enumerate(names, 1))
        question += f'\n\nAnswers for all {len(own)} tasks, as JSON: {{"1": ..., "2": ..., ...}}\n'
        (folder / letter / "questions.md").write_text(question, encoding="utf-8")
        answers[letter] = {
            "test": test, "maker": maker, "answers": [trial.answer for trial in own],
            "subjects": [trial.subject for trial in own],
        }  # fmt: skip
    key.parent.mkdir(parents=True, exist_ok=True)
    key.write_text(json.dumps(answers, indent=1), encoding="utf-8")


def _rows(trials: Sequence[Trial], first: int) -> Image.Image:
    """A row for each trial: its number, what is on the left, a gap, what is asked."""
    widest = max(len(trial.left) + len(trial.right) for trial in trials)
    sheet = Image.new("RGB", (60 + widest * (TILE + 12) + 60, len(trials) * (TILE + 34)), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(18)
    for row, trial in enumerate(trials):
        top = row * (TILE + 34) + 26
        pen.text((8, top + TILE // 2), str(first + row), fill="black", font=font)
        marks = "+-" if len(trial.left) == 2 else " "
        left = 50
        for mark, picture in (*zip(marks, trial.left, strict=True), *zip("12", trial.right, strict=True)):
            if mark == "1":
                left += 40
            sheet.paste(_tile(picture), (left, top))
            pen.text((left + TILE // 2 - 4, top - 24), mark, fill="black", font=font)
            left += TILE + 12
    return sheet


def _gallery(trials: Sequence[Trial], first: int) -> Image.Image:
    """Numbered pictures, five in a row."""
    side = 224
    rows = -(-len(trials) // 5)
    sheet = Image.new("RGB", (5 * (side + 12) + 12, rows * (side + 34)), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(18)
    for number, trial in enumerate(trials):
        left, top = 12 + number % 5 * (side + 12), number // 5 * (side + 34) + 28
        sheet.paste(_tile(trial.left[0], side), (left, top))
        pen.text((left, top - 25), str(first + number), fill="black", font=font)
    return sheet


def _tile(picture: Tensor, side: int = TILE) -> Image.Image:
    pixels = (picture.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
    return Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC)


def as_one(pictures: Tensor) -> Tensor:
    """Four pictures (4, 3, h, w) as one (3, 2h, 2w)."""
    return torch.cat([torch.cat(list(pictures[:2]), 2), torch.cat(list(pictures[2:]), 2)], 1)
