from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from toys import conv_net, toy_model

from atlas.grid import Cell
from atlas.icons import as_rgb, draw_icons, icon_starts, sheet, whitener
from featviz.draw.robust import robust_views
from featviz.run.output import OutputFolder


def _cells(count: int, channels: int = 6) -> list[Cell]:
    rng = np.random.default_rng(1)
    means = rng.normal(size=(count, channels)).astype(np.float32)
    return [Cell(4, number // 4, number % 4, 10, (0.0, 0.0), means[number]) for number in range(count)]


def test_whitening_inverts_the_uncentred_second_moment() -> None:
    vectors = np.random.default_rng(0).normal(2, [1, 3, 0.2], (500, 3)).astype(np.float32)
    moment = vectors.T @ vectors / 500
    assert torch.allclose(whitener(vectors, ridge=0), torch.from_numpy(np.linalg.inv(moment)), rtol=1e-3)


def test_whitening_of_more_vectors_than_are_taken_at_once_is_that_of_all() -> None:
    vectors = np.random.default_rng(0).normal(2, [1, 3, 0.2], (40_000, 3)).astype(np.float32)
    moment = vectors.astype(np.float64).T @ vectors / len(vectors)
    assert torch.allclose(whitener(vectors, ridge=0), torch.from_numpy(np.linalg.inv(moment)).float(), rtol=1e-5)


def test_the_ridge_keeps_a_dead_channel_finite() -> None:
    vectors = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    vectors[:, 1] = 0
    assert whitener(vectors, ridge=0.05).isfinite().all()


def test_an_icon_is_the_same_whatever_else_is_drawn() -> None:
    cells, model, whitening = _cells(9), toy_model(), torch.eye(6)
    together, scores, _ = draw_icons(model, "4", cells, whitening, icon=32, steps=4)
    alone, score, _ = draw_icons(model, "4", cells[5:6], whitening, icon=32, steps=4)
    assert np.array_equal(alone[0], together[5])
    assert score[0] == pytest.approx(scores[5])


def test_scores_are_the_cosine_of_the_whitened_mean_and_the_saved_icons_activation_at_the_centre() -> None:
    cells, model = _cells(3), toy_model()
    whitening = torch.randn(6, 6, generator=torch.Generator().manual_seed(0))
    icons, robust, scores = draw_icons(model, "4", cells, whitening, icon=32, steps=4)
    network = conv_net().eval()

    def cosine(pixels: torch.Tensor, v: torch.Tensor) -> float:
        with torch.no_grad():
            h = network[:5]((pixels - 0.5) / 0.5)[0, :, 4, 4]
        return (h @ v / (h.norm() * v.norm())).item()

    for cell, icon, clean, mean in zip(cells, icons, scores, robust, strict=True):
        pixels, v = torch.from_numpy(icon).permute(2, 0, 1)[None].float() / 255, torch.from_numpy(cell.mean) @ whitening
        assert clean == pytest.approx(cosine(pixels, v), abs=1e-4)
        assert mean == pytest.approx(np.mean([cosine(view, v) for view in robust_views(pixels)]), abs=1e-4)


def test_neighbours_begin_alike_and_cells_far_apart_do_not() -> None:
    cells = [Cell(20, row, col, 10, (0.0, 0.0), np.ones(6, np.float32)) for row in range(12) for col in range(12)]
    starts = icon_starts(cells, 0, 32, 3)
    assert starts.shape == (144, 3, 32, 32)
    assert starts.min() >= 0
    assert starts.max() <= 1
    alike = torch.corrcoef(starts.flatten(1))
    place = torch.tensor([[cell.row, cell.col] for cell in cells], dtype=torch.float32)
    apart = torch.cdist(place, place)
    assert alike[apart == 1].mean() > 0.7
    assert alike[apart > 6].mean().abs() < 0.1
    assert torch.equal(icon_starts(cells[70:71], 0, 32, 3)[0], starts[70])
    assert not torch.equal(icon_starts(cells[70:71], 1, 32, 3)[0], starts[70])


def test_finished_blocks_come_from_the_folder(tmp_path: Path) -> None:
    folder = OutputFolder.claim(tmp_path / "out", {})
    cells, model = _cells(5), toy_model()
    first, _, _ = draw_icons(model, "4", cells, torch.eye(6), icon=16, steps=2, keep=folder)
    for file in folder.draft.glob("icons-*.npz"):
        with np.load(file) as kept:
            changed = {**kept, "images": kept["images"] + 1}
        np.savez(file, **changed)
    again, _, _ = draw_icons(model, "4", cells, torch.eye(6), icon=16, steps=2, keep=folder)
    assert np.array_equal(again, first + 1)


def test_no_cells_give_no_icons() -> None:
    icons, scores, _ = draw_icons(toy_model(), "4", [], torch.eye(6), icon=16)
    assert icons.shape == (0, 16, 16, 3)
    assert scores.shape == (0,)


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_any_number_of_channels_becomes_rgb(channels: int) -> None:
    images = torch.arange(channels * 4, dtype=torch.uint8).reshape(1, channels, 2, 2)
    rgb = as_rgb(images)
    assert rgb.shape == (1, 2, 2, 3)
    assert rgb[0, 1, 0, 0] == images[0, 0, 1, 0]


def test_the_sheet_puts_each_icon_at_its_row_and_column_and_leaves_the_rest_transparent() -> None:
    icons = np.stack([np.full((2, 2, 3), 10, np.uint8), np.full((2, 2, 3), 20, np.uint8)])
    cells = [Cell(3, 0, 2, 1, (0, 0), np.zeros(1, np.float32)), Cell(3, 2, 1, 1, (0, 0), np.zeros(1, np.float32))]
    picture = sheet(cells, icons, 3)
    assert picture.shape == (6, 6, 4)
    assert picture[0, 4].tolist() == [10, 10, 10, 255]
    assert picture[5, 3].tolist() == [20, 20, 20, 255]
    assert (picture[..., 3] > 0).sum() == 8
