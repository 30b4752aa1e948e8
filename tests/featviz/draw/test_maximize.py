from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from toys import conv_net, toy_model

from featviz.draw.ascent import Ascent, one_cycle
from featviz.draw.maximize import maximize
from featviz.draw.objectives import Objective, alignment, channel, cosine, deepdream, direction, on
from featviz.draw.robust import robust_score
from featviz.draw.transforms import Affine
from featviz.errors import UserError
from featviz.network.models import Model
from featviz.network.trunk import Trunk
from featviz.seeds import generator_for

STILL = Affine()


class _Weighted(nn.Module):
    """One channel per pattern: the sum of the image weighted by it."""

    def __init__(self, patterns: Tensor) -> None:
        super().__init__()
        self.patterns, self.out = patterns, nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.out(torch.einsum("nchw,kchw->nk", images, self.patterns))
        return out


@pytest.mark.parametrize("canvas", ["pixel", "fourier"])
def test_the_best_image_of_a_linear_unit_is_white_where_its_weight_is_positive(canvas: str) -> None:
    patterns = torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    model = Model.wrap(_Weighted(patterns), size=16, mean=(0.0,), std=(1.0,))
    made = maximize(model, channel("out", [0, 1]), size=16, steps=300, lr=0.5, transform=STILL, canvas=canvas)
    best = patterns.clamp(min=0).sum((1, 2, 3))
    assert made.images.dtype == torch.uint8
    assert (made.clean / best).min() > 0.95
    assert ((made.images > 127) == (patterns > 0)).float().mean() > 0.93


@pytest.mark.parametrize(
    "objective",
    [
        channel("4", [0, 3]),
        channel("4", [1, 2], at="center"),
        channel("4", [4, 5], at=(0, 1), weights=[1.0, -1.0]),
        direction("4", torch.randn(2, 6, generator=torch.Generator().manual_seed(1))),
        direction("4", torch.randn(2, 6, generator=torch.Generator().manual_seed(1)), whitening=torch.eye(6) + 0.1),
        cosine("4", torch.randn(2, 6, generator=torch.Generator().manual_seed(1))),
        deepdream("4"),
        -1.0 * on("4", lambda maps: maps.var((1, 2, 3))),
        alignment("4", 2),
        on("8", lambda logits: logits[:, 2, 0, 0]),
    ],
)
def test_every_objective_climbs(objective: Objective) -> None:
    model = toy_model()
    short, long = (
        maximize(model, objective, count=2, size=32, steps=steps, transform=STILL, chunk=2) for steps in (1, 60)
    )
    assert (long.clean > short.clean).all()


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    model = toy_model()
    first, again, other = (maximize(model, channel("5", 0), size=32, steps=8, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, other.images)


def test_a_picture_is_the_same_whatever_else_is_drawn_in_the_run() -> None:
    model = toy_model()
    everything = maximize(model, channel("5", list(range(6))), size=32, steps=8, chunk=4)
    one = maximize(model, channel("5", list(range(6))), size=32, steps=8, chunk=4, pictures=[4])
    assert torch.equal(one.images[0], everything.images[4])
    assert one.scores[0] == everything.scores[4]


def test_the_global_random_state_is_neither_used_nor_changed() -> None:
    model = toy_model()
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first = maximize(model, channel("5", 0), size=32, steps=3)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(6)
    assert torch.equal(maximize(model, channel("5", 0), size=32, steps=3).images, first.images)


def test_the_best_attempt_is_kept() -> None:
    model = toy_model()
    objective = channel("5", list(range(4)))
    best = maximize(model, objective, size=32, steps=6, attempts=3)
    singles = [_attempt(model, objective, number) for number in range(3)]
    every = torch.stack([score for _, score in singles])
    assert torch.equal(best.scores, every.max(0).values)
    assert torch.equal(best.attempts, every.argmax(0))
    for picture, kept in enumerate(best.attempts.tolist()):
        assert torch.equal(best.images[picture], singles[kept][0][picture])


def _attempt(model: Model, objective: Objective, number: int) -> tuple[Tensor, Tensor]:
    from featviz.draw.canvas import Fourier
    from featviz.draw.transforms import views

    trunk = Trunk(model, objective.layers)
    numbers = list(range(4)) + [3] * 4
    generators = [generator_for(0, str(picture), number) for picture in numbers]
    ascent = Ascent(trunk, objective, Fourier, views(32), (32, 32), 6)
    images = ascent.draw(numbers, generators, lambda step, scores, canvas: None).images[:4]
    return images, robust_score(trunk, objective, images, range(4))


def test_the_clean_score_is_that_of_the_saved_8_bit_image_in_one_pass() -> None:
    model = toy_model()
    made = maximize(model, channel("5", [2, 3]), size=32, steps=5)
    network = conv_net().eval()
    with torch.no_grad():
        maps = network[:6]((made.images.float() / 255 - 0.5) / 0.5)
    assert torch.allclose(made.clean, torch.stack([maps[0, 2].mean(), maps[1, 3].mean()]), rtol=1e-3)


def test_a_one_channel_network_gets_one_channel_pictures() -> None:
    assert maximize(toy_model(inputs=1), channel("5", 0), size=(24, 32), steps=2).images.shape == (1, 1, 24, 32)


def test_no_pictures_asked_for_gives_none() -> None:
    made = maximize(toy_model(), channel("5", 0), size=32, steps=2, pictures=[])
    assert made.images.shape == (0, 3, 32, 32)
    assert made.scores.shape == (0,)


def test_progress_ends_at_its_total() -> None:
    reports: list[tuple[int, int]] = []
    maximize(
        toy_model(), channel("5", list(range(5))), size=32, steps=3, attempts=2, chunk=2,
        progress=lambda stage, done, total: reports.append((done, total)),
    )  # fmt: skip
    assert reports[-1] == (30, 30)
    assert [done for done, _ in reports] == sorted(done for done, _ in reports)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"steps": 0}, "steps, attempts and starts start at 1"),
        ({"attempts": 0}, "steps, attempts and starts start at 1"),
        ({"size": 4}, "at least 8 x 8"),
        ({"lr": 0.0}, "learning rate"),
        ({"pictures": [7]}, "7"),
        ({"keys": ["a", "b"]}, "2 keys"),
        ({"canvas": "oil"}, "no canvas 'oil'"),
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        maximize(toy_model(), channel("5", 0), **{"size": 32, "steps": 2, **wrong})  # type: ignore[arg-type]


def test_the_learning_rate_rises_to_its_peak_and_falls_to_nothing() -> None:
    assert one_cycle(0.0) == 0
    assert one_cycle(0.1) == pytest.approx(1)
    assert one_cycle(0.55) == pytest.approx(0.5)
    assert one_cycle(1.0) == pytest.approx(0)


def test_a_draw_depends_on_seed_key_and_attempt() -> None:
    draws = {
        torch.rand(1, generator=generator_for(*arguments)).item()
        for arguments in [(0, "a", 0), (1, "a", 0), (0, "b", 0), (0, "a", 1), (0, "1/a", 0), (1, "0/a", 0)]
    }
    assert len(draws) == 6
