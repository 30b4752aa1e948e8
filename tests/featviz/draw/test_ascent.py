"""What the loop does besides climbing: rescue, rest, clipping, opacity, importance, starts, watchers."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from toys import toy_model

from featviz.draw.ascent import clip_each, over_grey, over_noise
from featviz.draw.canvas import Pixels, canvas_maker
from featviz.draw.maximize import maximize
from featviz.draw.objectives import Objective, channel, diversity, on
from featviz.draw.penalties import l2
from featviz.draw.spectrum import Spectrum
from featviz.draw.transforms import Affine
from featviz.draw.watch import Moment, Snapshots
from featviz.errors import UserError
from featviz.network.models import Model
from featviz.network.trunk import out_of_memory
from featviz.seeds import generator_for

STILL = Affine()


class _Shut(nn.Module):
    """Channels relu(brightness - threshold): the first open on grey, the second shut until the image is bright."""

    def __init__(self, functional: bool = False) -> None:
        super().__init__()
        self.functional = functional
        self.rectifier = nn.ReLU6()

    def forward(self, images: Tensor) -> Tensor:
        bright = images.mean(1, keepdim=True)
        both = torch.cat([bright - 0.2, bright - 0.8], 1)
        return self.rectifier(both) if not self.functional else F.relu(both)


def _shut(functional: bool = False) -> Model:
    return Model.wrap(_Shut(functional), size=16, mean=(0.0,), std=(1.0,))


@pytest.mark.parametrize("layer", ["rectifier", "output"])
def test_a_unit_without_gradient_still_gets_a_picture(layer: str) -> None:
    model = _shut(functional=layer == "output")
    made = maximize(model, channel(layer, [0, 1]), size=16, steps=60, lr=0.3, transform=STILL, canvas="pixel")
    assert made.scores[1] > 0.1
    assert made.rescued[0] == 0
    assert 0 < made.rescued[1] < 60


def test_a_penalty_does_not_hide_that_a_unit_is_shut() -> None:
    wanted = channel("rectifier", [1]) - 1e-6 * l2()
    made = maximize(_shut(), wanted, size=16, steps=60, lr=0.3, transform=STILL, canvas="pixel")
    assert made.scores[0] > 0.1


def test_a_rescue_leaves_the_neighbours_alone() -> None:
    model = _shut()
    together = maximize(model, channel("rectifier", [0, 1]), size=16, steps=10, chunk=2)
    for number in (0, 1):
        alone = maximize(model, channel("rectifier", [0, 1]), size=16, steps=10, chunk=2, pictures=[number])
        assert torch.equal(alone.images[0], together.images[number])


def test_a_constant_unit_comes_out_as_it_began() -> None:
    made = maximize(toy_model(), on("4", lambda maps: maps.detach().mean((1, 2, 3))), size=32, steps=3)
    assert made.images.float().std() < 3


def test_clipping_bounds_each_pictures_own_gradient() -> None:
    first, second = torch.zeros(3, 4, requires_grad=True), torch.zeros(3, 2, 2, requires_grad=True)
    first.grad, second.grad = torch.randn(3, 4), torch.randn(3, 2, 2)
    first.grad[1], second.grad[1] = 1e-3, 0
    before = torch.cat([first.grad, second.grad.flatten(1)], 1)
    clip_each([first, second], 0.5)
    after = torch.cat([first.grad, second.grad.flatten(1)], 1)
    for row in (0, 2):
        assert torch.allclose(after[row], before[row] * 0.5 / before[row].norm())
    assert torch.equal(after[1], before[1])


def test_clipped_pictures_still_climb() -> None:
    model, wish = toy_model(), channel("4", [0, 1])
    short, long = (maximize(model, wish, size=32, steps=n, clip=1e-3, transform=STILL).clean for n in (1, 60))
    assert (long > short).all()


def test_a_picture_that_rests_stays_as_it_is_while_others_go_on() -> None:
    """The first unit reaches its ceiling of 6 at once and rests; the second climbs to the end."""

    class Ceiling(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.out = nn.Identity()

        def forward(self, images: Tensor) -> Tensor:
            bright = images.mean((1, 2, 3))
            result: Tensor = self.out(torch.stack([(bright * 100).clamp(max=6) + 0 * bright, bright], 1))
            return result

    model = Model.wrap(Ceiling(), size=16, mean=(0.0,), std=(1.0,))
    seen = Snapshots(range(1, 41))
    maximize(model, channel("out", [0, 1]), size=16, steps=40, patience=5, transform=STILL, watch=seen, chunk=2)
    last = max(step for _, _, step in seen.images)
    pictures = [[seen.images[picture, 0, step] for step in range(1, last + 1)] for picture in (0, 1)]
    assert torch.equal(pictures[0][6], pictures[0][-1])
    assert pictures[1][-1].float().mean() > pictures[1][6].float().mean() + 5


def test_the_loop_ends_when_every_picture_rests() -> None:
    steps: list[int] = []
    flat = on("4", lambda maps: maps.mean((1, 2, 3)) * 0)
    maximize(toy_model(), flat, size=32, steps=100, patience=4, watch=lambda moment: steps.append(moment.step))
    assert steps == [1, 2, 3, 4, 5]


def test_a_watcher_sees_every_step_of_every_picture() -> None:
    moments: list[Moment] = []
    made = maximize(toy_model(), channel("4", [0, 1, 2]), size=32, steps=3, chunk=2, attempts=2, watch=moments.append)
    assert [(moment.pictures, moment.attempt, moment.step) for moment in moments] == [
        (pictures, attempt, step) for pictures in ((0, 1), (2,)) for attempt in (0, 1) for step in (1, 2, 3)
    ]
    last = {(moment.pictures, moment.attempt): moment.images() for moment in moments if moment.step == 3}
    assert torch.equal(last[(2,), int(made.attempts[2])][0], made.images[2])
    assert all(moment.scores.shape == (len(moment.pictures),) for moment in moments)


def test_snapshots_keep_the_steps_asked_for() -> None:
    kept = Snapshots([1, 4])
    made = maximize(toy_model(), channel("4", [0, 1]), size=32, steps=4, watch=kept)
    assert set(kept.images) == {(picture, 0, step) for picture in (0, 1) for step in (1, 4)}
    assert torch.equal(kept.images[1, 0, 4], made.images[1])


def test_a_start_is_where_the_pictures_begin() -> None:
    start = F.interpolate(torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0)), (32, 32), mode="bicubic")
    start = start.clamp(0.05, 0.95)
    made = maximize(toy_model(), channel("4", [0, 1]), size=32, steps=1, lr=1e-6, start=start)
    assert (made.images / 255 - start).abs().max() < 0.01
    one = maximize(toy_model(), channel("4", [0, 1]), size=32, steps=1, lr=1e-6, start=start[0])
    assert (one.images / 255 - start[0]).abs().max() < 0.01


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (torch.rand(3, 16, 16), r"shape \(3, 32, 32\)"),
        (torch.rand(3, 3, 32, 32), "one for all or one for each of the 2 pictures"),
        (torch.full((3, 32, 32), 2.0), r"images in \[0, 1\]"),
        (torch.zeros(3, 32, 32, dtype=torch.uint8), r"images in \[0, 1\]"),
    ],
)
def test_a_start_that_does_not_fit_is_refused(start: Tensor, message: str) -> None:
    with pytest.raises(UserError, match=message):
        maximize(toy_model(), channel("4", [0, 1]), size=32, steps=1, start=start)


def test_importance_is_where_the_unit_looks() -> None:
    class Corner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.out = nn.Identity()

        def forward(self, images: Tensor) -> Tensor:
            result: Tensor = self.out(images[:, :, :8, :8].mean((1, 2, 3))[:, None])
            return result

    model = Model.wrap(Corner(), size=16, mean=(0.0,), std=(1.0,))
    made = maximize(model, channel("out", 0), size=16, steps=5, transform=STILL, importance=True)
    assert made.importance is not None
    assert made.importance.shape == (1, 16, 16)
    assert made.importance.max() == 1
    assert made.importance[0, :8, :8].min() > 0.5
    assert max(made.importance[0, 8:, :].max(), made.importance[0, :, 8:].max()) < 1e-5
    learned = maximize(model, channel("out", 0), size=16, steps=150, lr=0.1, transform=STILL, alpha=True)
    assert learned.alpha is not None
    assert learned.images.shape == (1, 3 if model.preprocess.channels == 3 else 1, 16, 16)
    opaque = learned.alpha[0].float() / 255
    assert opaque[:7, :7].mean() > opaque[9:, 9:].mean() + 0.3


def test_without_being_asked_there_is_neither_opacity_nor_importance() -> None:
    made = maximize(toy_model(), channel("4", 0), size=32, steps=1)
    assert made.alpha is None
    assert made.importance is None


def test_a_composite_shows_the_colours_where_opaque_and_its_own_noise_elsewhere() -> None:
    images = torch.full((2, 4, 16, 16), 0.25)
    images[:, 3, :8], images[:, 3, 8:] = 1, 0
    first, again = (over_noise(images, [generator_for(0, "a"), generator_for(0, "b")]) for _ in range(2))
    assert torch.equal(first, again)
    assert torch.equal(first[:, :, :8], torch.full((2, 3, 8, 16), 0.25))
    assert first[:, :, 8:].std() > 0.1
    assert not torch.equal(first[0], first[1])


def test_what_grows_with_a_drawing_is_told_how_far_it_is() -> None:
    told: list[float] = []

    class Growing:
        def __call__(self, images: Tensor, generators: Any) -> Tensor:
            raise AssertionError("asked before it grew")

        def at(self, progress: float) -> Any:
            told.append(progress)
            return lambda images, generators: images

    maximize(toy_model(), channel("4", 0), size=32, steps=10, transform=Growing())
    assert told == pytest.approx([(step + 0.5) / 10 for step in range(10)])


def test_of_several_starts_a_picture_goes_on_with_the_one_that_gets_highest() -> None:
    """A landscape with two hills: begun dark, a picture climbs the low one and cannot leave it."""

    def hills(images: Tensor) -> Tensor:
        light = images.mean((1, 2, 3))
        return torch.maximum(1 - (light - 0.2).abs() * 10, 3 - (light - 0.8).abs() * 10)

    wish = Objective((), lambda acts: hills(acts.images), 2)

    def canvas(generators: Any, channels: int, size: tuple[int, int], device: torch.device) -> Pixels:
        made = Pixels(generators, channels, size, device)
        light = [torch.rand(1, generator=each) * 0.8 + 0.1 for each in generators]
        made.begin_at(torch.stack(light)[:, :, None, None].expand(-1, channels, *size))
        return made

    def begun(key: str) -> list[float]:
        """How light each start is."""
        names = [key, *(f"{key} start {number}" for number in range(2, 7))]
        found = []
        for name in names:
            generator = generator_for(0, name)
            torch.randn((3, 16, 16), generator=generator)
            found.append(float(torch.rand(1, generator=generator) * 0.8 + 0.1))
        return found

    keys = [key for key in map(str, range(40)) if begun(key)[0] < 0.4 and max(begun(key)) > 0.7][:2]
    how = {"keys": keys, "size": 16, "steps": 100, "lr": 0.05, "canvas": canvas, "transform": STILL}
    one, several = (maximize(toy_model(), wish, starts=number, **how) for number in (1, 6))  # type: ignore[arg-type]
    assert one.clean.max() < 1.1
    assert several.clean.min() > 1.5
    again = maximize(toy_model(), wish, starts=6, pictures=[1], **how)  # type: ignore[arg-type]
    assert torch.equal(again.images[0], several.images[1])


def test_a_picture_of_several_starts_is_what_its_best_start_alone_becomes() -> None:
    model, chosen = toy_model(), set()
    how = {"size": 32, "steps": 40, "chunk": 1}
    for key in ("a", "b", "c", "d"):
        names = [key, f"{key} start 2", f"{key} start 3"]
        drawn = maximize(model, channel("4", 1), keys=[key], starts=3, **how)  # type: ignore[arg-type]
        alone = [maximize(model, channel("4", 1), keys=[name], **how) for name in names]  # type: ignore[arg-type]
        same = [number for number, each in enumerate(alone) if torch.equal(each.images, drawn.images)]
        assert len(same) == 1
        chosen |= set(same)
    assert len(chosen) > 1


def test_a_prior_guides_the_drawing_and_is_left_out_of_the_score() -> None:
    model, wish = toy_model(), channel("4", [0, 1])
    free = maximize(model, wish, size=32, steps=40, transform=STILL)
    dark = Objective((), lambda acts: -acts.images.mean((1, 2, 3)))
    guided = maximize(model, wish, size=32, steps=40, transform=STILL, prior=20 * dark)
    assert guided.images.float().mean() < free.images.float().mean() - 20
    assert torch.allclose(_measured(model, wish, guided.images), guided.clean, atol=1e-5)


def test_an_opacity_is_weighed_alike_whatever_is_added_to_all_scores() -> None:
    model, wish = toy_model(), channel("4", [0, 1])
    lower = replace(wish, score=lambda acts: wish(acts) - 100)
    how = {"size": 32, "steps": 12, "transform": STILL, "alpha": True}
    made, other = (maximize(model, each, **how) for each in (wish, lower))  # type: ignore[arg-type]
    assert made.alpha is not None
    assert other.alpha is not None
    assert (made.alpha.int() - other.alpha.int()).abs().max() <= 1


def test_a_prior_weighs_alike_whatever_is_added_to_all_scores() -> None:
    model, wish = toy_model(), channel("4", [0, 1])
    dark = Objective((), lambda acts: -acts.images.mean((1, 2, 3)))
    how = {"size": 32, "steps": 12, "transform": STILL, "prior": 2 * dark}
    plain = maximize(model, wish, **how)  # type: ignore[arg-type]
    below = replace(wish, score=lambda acts: wish(acts) - 32.0)
    assert torch.equal(maximize(model, below, **how).images, plain.images)  # type: ignore[arg-type]


def test_out_of_memory_halves_the_micro_batch_and_says_so() -> None:
    class Small(nn.Module):
        """A device with room for three pictures."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = toy_model().network

        def forward(self, images: Tensor) -> Tensor:
            if len(images) > 3:
                raise torch.OutOfMemoryError("CUDA out of memory")
            result: Tensor = self.inner(images)
            return result

    model = Model.wrap(Small(), size=32, mean=(0.5,) * 3, std=(0.5,) * 3)
    wish = channel("inner.4", list(range(5)))
    with pytest.warns(RuntimeWarning, match="drawing 2 pictures at once instead of 4"):
        made = maximize(model, wish, size=32, steps=3, chunk=4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(made.images, maximize(model, wish, size=32, steps=3, chunk=2).images)
    nothing = Model.wrap(_Full(), size=32)
    with pytest.raises(UserError, match="no memory for 1 picture"):
        maximize(nothing, channel("out", 0), size=32, steps=3, chunk=1)


@pytest.mark.parametrize(
    "text", ["DefaultCPUAllocator: can't allocate memory", "CUDA error: out of memory", "MPS backend out of memory"]
)
def test_running_out_of_memory_is_recognised_in_every_devices_words(text: str) -> None:
    assert out_of_memory(RuntimeError(text))
    assert not out_of_memory(RuntimeError("shapes do not match"))


class _Full(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        if images.requires_grad:
            raise torch.OutOfMemoryError("CUDA out of memory")
        result: Tensor = self.out(images)
        return result


def test_diverse_pictures_differ_more_than_pictures_drawn_apart() -> None:
    model, group = toy_model(), 3
    wish = channel("4", [2] * group)
    apart = maximize(model, wish, size=32, steps=60, transform=STILL)
    measure = diversity("4", group)
    unlike = maximize(model, wish, size=32, steps=60, transform=STILL, prior=3 * measure)
    scores = [_measured(model, measure, made.images).mean() for made in (apart, unlike)]
    assert scores[1] > scores[0] + 0.02
    assert _measured(model, wish, unlike.images).min() > 0


def _measured(model: Model, objective: Any, images: Tensor) -> Tensor:
    from featviz.draw.robust import score
    from featviz.network.trunk import Trunk

    return score(Trunk(model, ["4"]), objective, images, range(len(images)))


def test_a_group_is_the_same_whatever_other_groups_are_drawn() -> None:
    model = toy_model()
    wish, prior = channel("4", [0, 0, 1, 1, 2, 2]), diversity("4", 2)
    everything = maximize(model, wish, size=32, steps=5, chunk=4, prior=prior)
    second = maximize(model, wish, size=32, steps=5, chunk=4, pictures=[2, 3], prior=prior)
    assert torch.equal(second.images, everything.images[2:4])
    assert torch.equal(second.scores, everything.scores[2:4])
    with pytest.raises(UserError, match="whole groups of 2"):
        maximize(model, wish, size=32, steps=5, pictures=[1, 2], prior=prior)


def test_bfloat16_scores_within_a_few_percent_of_float32() -> None:
    model, wish = toy_model(), channel("4", list(range(6)))
    full, half = (
        maximize(model, wish, size=32, steps=40, transform=STILL, precision=precision).images
        for precision in ("float32", "bfloat16")
    )
    scores = [_measured(model, wish, images) for images in (full, half)]
    assert torch.allclose(scores[1], scores[0], rtol=0.05, atol=0.01)
    assert not torch.equal(full, half)


def test_what_a_picture_counts_as_does_not_depend_on_how_long_its_neighbours_go_on() -> None:
    model, wish = toy_model(), channel("4", list(range(6)))
    options = {"size": 32, "steps": 16, "patience": 3, "importance": True, "chunk": 6, "attempts": 2}
    together = maximize(model, wish, **options)  # type: ignore[arg-type]
    for number in range(6):
        alone = maximize(model, wish, pictures=[number], **options)  # type: ignore[arg-type]
        for field in ("images", "scores", "attempts", "rescued", "importance"):
            assert torch.equal(getattr(alone, field)[0], getattr(together, field)[number]), field


def test_one_step_whose_gradient_is_not_finite_spoils_nothing() -> None:
    calls: list[int] = []

    def wish(maps: Tensor) -> Tensor:
        calls.append(1)
        values = maps[:, 2].mean((1, 2))
        return values * torch.nan if len(calls) == 3 else values

    made = maximize(toy_model(), on("4", wish), size=32, steps=40, transform=STILL)
    first = maximize(toy_model(), channel("4", 2), size=32, steps=1, transform=STILL)
    assert made.images.float().std() > 5
    assert made.scores > first.scores


def test_an_opacity_is_scored_over_grey() -> None:
    made = maximize(toy_model(), channel("4", 1), size=32, steps=20, alpha=True)
    assert made.alpha is not None
    shown = over_grey(made.images, made.alpha)
    share = made.alpha[:, None].float() / 255
    assert (shown - (made.images * share + 128 * (1 - share))).abs().max() <= 0.5
    assert torch.allclose(_measured(toy_model(), channel("4", 1), shown), made.clean, atol=1e-5)


def test_an_opacity_learns_at_its_own_pace_whatever_the_canvas() -> None:
    spectrum = Spectrum.of(torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    spread = [
        maximize(
            toy_model(), channel("4", 1), size=32, steps=25, alpha=True, chunk=1, canvas=canvas_maker(canvas, spectrum)
        )
        .alpha.float()
        .std()  # type: ignore[union-attr]
        for canvas in ("fourier", "cppn", "maco")
    ]
    assert max(spread) < 4 * min(spread)


def test_a_units_address_is_an_objective() -> None:
    made = maximize(toy_model(), "4:2,4", size=32, steps=3)
    assert torch.equal(made.images, maximize(toy_model(), channel("4", [2, 4]), size=32, steps=3).images)


def test_sizes_may_be_numpys() -> None:
    import numpy as np

    assert maximize(toy_model(), channel("4", 0), size=np.int64(32), steps=1).images.shape == (1, 3, 32, 32)  # type: ignore[arg-type]
