from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image, ImageEnhance
from toys import noise_folder, toy_model

from search.exemplars.diverse import diverse
from search.exemplars.exemplars import Exemplars, exemplars
from search.images.images import open_images


def _with_copies(folder: Path) -> Exemplars:
    """10 images and of each three near copies, a little darker; classes by the original's number modulo 3."""
    noise_folder(folder, 10)
    rows = []
    for number in range(10):
        rows.append(f"{number:03d}.png,{number % 3}")
        with Image.open(folder / f"{number:03d}.png") as image:
            for copy in range(3):
                name = f"{number:03d}-{copy}.png"
                ImageEnhance.Brightness(image).enhance(1 - 0.02 * (copy + 1)).save(folder / name)
                rows.append(f"{name},{number % 3}")
    (folder / "labels.csv").write_text("file,class_index\n" + "\n".join(rows) + "\n")
    return exemplars(toy_model(), open_images(folder), "4", k=40)


def test_no_two_are_copies_and_each_is_the_best_of_its_copies(tmp_path: Path) -> None:
    found = _with_copies(tmp_path)
    for channel in range(6):
        made = diverse(found, "4", channel, 5)
        originals = [entry.name[:3] for entry in made.exemplars]
        assert len(set(originals)) == len(originals) == 5
        every = found["4", channel]
        for entry in made.exemplars:
            assert entry == next(other for other in every if other.name[:3] == entry.name[:3])
        # Nothing better of another original was passed over.
        firsts = list(dict.fromkeys(entry.name[:3] for entry in every))
        assert originals == firsts[:5]


def test_the_cost_is_the_share_of_the_mean_given_up(tmp_path: Path) -> None:
    found = _with_copies(tmp_path)
    made = diverse(found, "4", 0, 4)
    plain = [entry.value for entry in found["4", 0][:4]]
    kept = [entry.value for entry in made.exemplars]
    assert made.cost == pytest.approx((sum(plain) - sum(kept)) / abs(sum(plain)))
    place = found["4", 0].index(made.exemplars[-1])
    assert made.dropped == place + 1 - 4


def test_one_per_class_and_no_more_than_there_are(tmp_path: Path) -> None:
    made = diverse(_with_copies(tmp_path), "4", 1, 9, per_class=True)
    assert sorted(entry.label for entry in made.exemplars) == [0, 1, 2]


def test_without_copies_nothing_is_lost(tmp_path: Path) -> None:
    found = exemplars(toy_model(), open_images(noise_folder(tmp_path, 12)), "4", k=5)
    made = diverse(found, "4", 2, 5)
    assert (list(made.exemplars), made.dropped, made.cost) == (found["4", 2], 0, 0)


def test_asked_for_while_searching_they_are_what_python_gives(tmp_path: Path) -> None:
    _with_copies(tmp_path)
    found = exemplars(toy_model(), open_images(tmp_path), "4", k=4, diverse="images")
    plain = exemplars(toy_model(), open_images(tmp_path), "4", k=40)
    for channel in range(6):
        assert found["4", channel] == list(diverse(plain, "4", channel, 4).exemplars)
        assert len(found.of("4", channel)) > 4
    assert sum(count for _, count in found.labels_of("4", 0)) == 4
