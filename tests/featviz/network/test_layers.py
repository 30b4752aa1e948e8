from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from toys import Positions, conv_net

from featviz.errors import UserError
from featviz.network.layers import Layout, find_layer, find_layers, infer_layout, outputs_at, read
from featviz.network.layout import UndecidedError


def test_an_unknown_layer_names_the_three_closest() -> None:
    network = nn.ModuleDict({"stem": nn.Identity(), "block1": nn.Identity(), "block2": nn.Identity()})
    with pytest.raises(UserError, match="no layer 'blok1'; the closest are 'block1', 'block2', 'stem'"):
        find_layer(network, "blok1")


def test_the_root_is_no_layer() -> None:
    with pytest.raises(UserError, match="no layer ''"):
        find_layer(conv_net(), "")


def test_a_glob_finds_layers_in_the_order_of_definition() -> None:
    network = nn.ModuleDict({"b": nn.Sequential(nn.ReLU(), nn.ReLU()), "a": nn.ReLU()})
    assert find_layers(network, "b.*") == ["b.0", "b.1"]
    assert find_layers(network, "*") == ["b", "b.0", "b.1", "a"]


def test_an_in_place_activation_after_the_layer_does_not_change_what_was_read() -> None:
    network = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.ReLU(inplace=True)).eval()
    nn.init.constant_(network[0].weight, -1.0)
    with read(network, ["0"]) as outputs:
        network(torch.ones(1, 1, 2, 2))
    assert torch.equal(outputs["0"], torch.full((1, 1, 2, 2), -1.0))


def test_the_forward_pass_stops_at_the_last_wanted_layer() -> None:
    class Explodes(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise AssertionError("the forward pass went on")

    network = nn.Sequential(nn.Identity(), nn.Flatten(), Explodes())
    outputs = outputs_at(network, torch.ones(1, 2, 2, 2), ["1", "0"])
    assert outputs["0"].shape == (1, 2, 2, 2)
    assert outputs["1"].shape == (1, 8)


def test_a_layer_that_never_runs_is_an_error() -> None:
    class Unused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = nn.Identity(), nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.used(x)
            return y

    with pytest.raises(UserError, match="never runs layer 'unused'"):
        outputs_at(Unused(), torch.ones(1, 1, 2, 2), ["unused"])


def test_hooks_are_gone_and_the_users_hooks_stay_even_when_the_body_raises() -> None:
    network = conv_net()
    calls: list[str] = []
    network[0].register_forward_hook(lambda module, inputs, output: calls.append("mine"))
    with pytest.raises(RuntimeError, match="body"), read(network, ["0", "3"]):
        raise RuntimeError("body")
    network.eval()(torch.rand(1, 3, 8, 8))
    assert calls == ["mine"]
    assert [len(module._forward_hooks) for module in network] == [1, 0, 0, 0, 0, 0, 0, 0, 0]


def test_a_reused_module_is_read_at_its_first_run() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.add = nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.add(self.add(x) + 1)
            return y

    network = Twice()
    with read(network, ["add"]) as outputs:
        network(torch.zeros(1, 1, 1, 1))
    assert outputs["add"].item() == 0


@pytest.mark.parametrize("rows_columns", [(4, 4), (3, 5), (6, 2)])
@pytest.mark.parametrize(("layout", "prefix"), [("nchw", 0), ("nhwc", 0), ("tokens", 0), ("tokens", 1), ("tokens", 5)])
def test_every_layout_becomes_channels_rows_columns(rows_columns: tuple[int, int], layout: str, prefix: int) -> None:
    rows, columns = rows_columns
    network = Positions(rows, columns, layout=layout, prefix=prefix, channels=7)
    output = network(torch.rand(2, 3, rows * 8, columns * 8))
    found = infer_layout(network, "encode", output, batch=2, size=(rows * 8, columns * 8))
    maps = found.maps(output)
    assert maps.shape == (2, 7, rows, columns)
    assert torch.equal(maps[0, 0], torch.arange(rows).float()[:, None].expand(rows, columns))
    assert torch.equal(maps[1, 1], torch.arange(columns).float()[None].expand(rows, columns))


def test_a_draw_between_layouts_is_decided_by_the_networks_own_word() -> None:
    network = nn.Identity()
    output = torch.zeros(1, 8, 8, 8)
    with pytest.raises(UndecidedError, match="which dimension holds its channels"):
        infer_layout(network, "x", output, batch=1, size=(64, 64))
    network.output_fmt = "NHWC"  # type: ignore[assignment]
    assert infer_layout(network, "x", output, batch=1, size=(64, 64)).kind == "nhwc"


def test_without_the_networks_word_the_smallest_prefix_that_leaves_a_grid_is_taken() -> None:
    found = infer_layout(nn.Identity(), "x", torch.zeros(1, 17, 3), batch=1, size=(32, 32))
    assert found == Layout("tokens", 1, (4, 4))


def test_a_vector_is_one_position() -> None:
    output = torch.rand(2, 5)
    found = infer_layout(nn.Identity(), "x", output, batch=2, size=(8, 8))
    assert torch.equal(found.maps(output)[:, :, 0, 0], output)


@pytest.mark.parametrize("output", [torch.zeros(4, 3, 8, 8), torch.zeros(2), torch.zeros(2, 3, 4, dtype=torch.long)])
def test_an_output_that_holds_no_maps_names_its_shape(output: Tensor) -> None:
    with pytest.raises(UserError, match=r"layer 'odd' returns .*\("):
        infer_layout(nn.Identity(), "odd", output, batch=2, size=(8, 8))


def test_the_first_tensor_of_a_tuple_counts_and_no_tensor_is_an_error() -> None:
    assert Layout("vector").maps((None, torch.ones(1, 2))).shape == (1, 2, 1, 1)
    with pytest.raises(UserError, match="holds no tensor"):
        Layout("vector").maps(None)
