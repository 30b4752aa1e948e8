from __future__ import annotations

import argparse
import re
import warnings
from collections import defaultdict, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm
from torch.optim.swa_utils import AveragedModel
from toys import conv_net

from featviz.errors import UserError
from featviz.network.checkpoints import Saved, fill
from featviz.network.models import load_model

State = dict[str, Any]


class _Settings(dict[str, Any]):
    """As yacs and EasyDict have them; unpickling one would be seen."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.frozen = True

    def __setitem__(self, key: str, value: Any) -> None:
        raise AssertionError("code of the file's own has run")


class _Steps(list[int]):
    def extend(self, values: Any) -> None:
        raise AssertionError("code of the file's own has run")


def _saved(tmp_path: Path, content: Any) -> Saved:
    torch.save(content, tmp_path / "w.ckpt")
    return Saved.read(tmp_path / "w.ckpt", "a toy")


def _before(prefix: str, state: State) -> State:
    return {prefix + name: value for name, value in state.items()}


def _other(state: State) -> State:
    return {name: value + 1 for name, value in state.items()}


def _trained(network: nn.Module) -> State:
    optimizer = torch.optim.AdamW(network.parameters())
    network(torch.rand(2, 3, 8, 8)).sum().backward()
    optimizer.step()
    return optimizer.state_dict()


def _lightning(network: nn.Module, state: State) -> State:
    inside = {**_before("net.", state), "criterion.weight": torch.ones(4)}
    return {"state_dict": inside, "optimizer_states": [_trained(network)], "hyper_parameters": {"lr": 0.1}}


WRAPPED: dict[str, tuple[Callable[[nn.Module, State], Any], str]] = {
    "plain": (lambda network, state: state, ""),
    "DataParallel": (
        lambda network, state: nn.DataParallel(network).state_dict(),
        "'module.' of DataParallel",
    ),
    "compiled": (lambda network, state: _before("_orig_mod.", state), "saved from torch.compile"),
    "compiled inside": (
        lambda network, state: {name.replace("3.", "3._orig_mod."): value for name, value in state.items()},
        "saved from torch.compile",
    ),
    "both": (lambda network, state: _before("_orig_mod.module.", state), "torch.compile, the prefix 'module.'"),
    "Lightning": (_lightning, "under 'state_dict', the prefix 'net.' left out .*1, such as 'criterion.weight'"),
    "with an average": (
        lambda network, state: {"ema": {"module": _other(state)}, "model": state},
        r"also holds an average over training \(ema/module\), which is not used",
    ),
    "with an average first": (lambda network, state: {"gen_ema": _other(state), "gen": state}, "under 'gen'.*gen_ema"),
    "student and teacher": (
        lambda network, state: {"state_dict": {**_before("teacher.", _other(state)), **_before("student.", state)}},
        "'student.' left out",
    ),
    "average alone": (lambda network, state: {"model_ema": state, "epoch": 3}, "nothing but an average"),
    "averaged by torch": (lambda network, state: AveragedModel(network).state_dict(), "'module.'"),
    "settings beside": (
        lambda network, state: {"net": state, "args": argparse.Namespace(path=Path("x"))},
        "under 'net'",
    ),
    "containers of all kinds beside": (
        lambda network, state: {
            "net": state,
            "cfg": _Settings(model=_Settings(kind="toy"), steps=_Steps([1, 2])),
            "losses": [defaultdict(list, a=[1.0]), deque([2.0]), argparse.Namespace(inner=_Settings(b=1))],
        },
        "under 'net'",
    ),
    "in settings": (lambda network, state: _Settings(net=state), "under 'net'"),
    "parameters, no counts": (
        lambda network, state: {
            name: nn.Parameter(value) for name, value in state.items() if value.is_floating_point()
        },
        "",
    ),
}


@pytest.mark.parametrize("kind", WRAPPED)
def test_weights_come_out_of_every_usual_wrapper_and_the_way_is_told(tmp_path: Path, kind: str) -> None:
    donor, network = conv_net(seed=1), conv_net(seed=2)
    wrap, said = WRAPPED[kind]
    content = wrap(donor, donor.state_dict())
    notes = " ".join(fill(network, _saved(tmp_path, content), "a toy"))
    for name, value in donor.state_dict().items():
        assert name.endswith("num_batches_tracked") or torch.equal(network.state_dict()[name], value), name
    assert bool(notes) == bool(said)
    assert re.search(said, notes), notes


def test_a_network_may_have_a_prefix_that_the_file_lacks(tmp_path: Path) -> None:
    donor, network = conv_net(seed=1), nn.ModuleDict({"backbone": conv_net(seed=2)})
    notes = fill(network, _saved(tmp_path, _before("module.", donor.state_dict())), "a toy")
    assert torch.equal(network["backbone"].state_dict()["3.weight"], donor.state_dict()["3.weight"])
    assert "'backbone.' put before" in notes[0]


def test_weights_of_an_older_weight_norm_are_read_as_the_network_itself_reads_them(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(weight_norm(nn.Linear(3, 2)))
    g, v = torch.rand(2, 1), torch.rand(2, 3)
    fill(network, _saved(tmp_path, {"0.weight_g": g, "0.weight_v": v, "0.bias": torch.zeros(2)}), "a toy")
    assert torch.allclose(network[0].weight, g * v / v.norm(dim=1, keepdim=True))


def test_several_networks_that_fit_are_no_choice_of_ours(tmp_path: Path) -> None:
    state = conv_net().state_dict()
    with pytest.raises(UserError, match="several networks that fit: 'a', 'b'"):
        fill(conv_net(), _saved(tmp_path, {"a": state, "b": _other(state)}), "a toy")
    fill(conv_net(), _saved(tmp_path, {"a": state, "b": dict(state)}), "a toy")  # of two alike either will do


def test_what_does_not_fit_is_told_in_a_short_paragraph_and_changes_nothing(tmp_path: Path) -> None:
    network = conv_net()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    odd = {**conv_net(seed=3).state_dict(), "3.weight": torch.ones(7, 8, 3, 3)}
    odd["4.wait"] = odd.pop("4.weight")
    with pytest.raises(UserError) as told:
        fill(network, _saved(tmp_path, odd), "a toy")
    assert "11 of the 13 tensors that it takes fit" in str(told.value)
    assert "3.weight: (7, 8, 3, 3), not (6, 8, 3, 3)" in str(told.value)
    assert "1 are missing (4.weight); 1 are too many (4.wait). Most like 4.weight is its 4.wait." in str(told.value)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    with pytest.raises(UserError) as told:
        fill(network, _saved(tmp_path, timm.create_model("test_vit").state_dict()), "a toy")
    assert len(str(told.value)) < 500
    head = {**conv_net().state_dict(), "8.weight": torch.ones(9, 6), "8.bias": torch.ones(9)}
    with pytest.raises(UserError, match=r"head is for 9 classes \(8.weight\), the network's for 4"):
        fill(network, _saved(tmp_path, head), "a toy")


def test_a_network_of_a_library_gets_the_head_that_the_weights_are_for(tmp_path: Path) -> None:
    file = tmp_path / "ten.pth"
    donor = timm.create_model("test_resnet", num_classes=10)
    torch.save(_before("module.", donor.state_dict()), file)
    model = load_model("timm/test_resnet", weights=file, device="cpu")
    images = torch.rand(1, 3, 32, 32)
    assert torch.equal(model.network(images), donor.eval()(images))
    assert model.labels == ()
    assert "for 10 classes, not 1000" in model.notes[0]
    named = load_model("timm/test_resnet", weights=file, device="cpu", labels=[f"kind {i}" for i in range(10)])
    assert named.class_index("kind 7") == 7
    with pytest.raises(UserError, match="labels name 3 classes; timm/test_resnet has 10"):
        load_model("timm/test_resnet", weights=file, labels="abc")
    torch.save(timm.create_model("test_resnet", num_classes=0).state_dict(), file)
    features = load_model("timm/test_resnet", weights=file, device="cpu")
    assert "features, no classes" in features.notes[0]
    assert features.labels == ()


def test_torchvisions_networks_too_without_the_heads_that_only_help_training(tmp_path: Path) -> None:
    donor = torchvision.models.googlenet(
        weights=None, num_classes=3, aux_logits=False, init_weights=False, transform_input=True
    ).eval()
    torch.save(donor.state_dict(), tmp_path / "w.pth")
    model = load_model("torchvision/googlenet", weights=tmp_path / "w.pth", device="cpu")
    images = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(model.network(images), donor(images))


class _Whole(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)


def _cut(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def test_what_holds_no_weights_says_what_it_is_and_what_to_do(tmp_path: Path) -> None:
    def refused(name: str, content: bytes | None, said: str) -> None:
        file = tmp_path / name
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(UserError, match=rf"{name} does not hold weights for a toy: .*{said}") as told:
            Saved.read(file, "a toy")
        assert "\n" not in str(told.value)
        assert len(str(told.value)) < 400

    state: dict[str, Tensor] = dict(conv_net().state_dict())
    torch.save(_Whole(), tmp_path / "whole.pth")
    refused("whole.pth", None, r"whole pickled object \(.*_Whole\).*torch.save\(network.state_dict\(\)")
    torch.save({"model": _Whole(), "epoch": 2}, tmp_path / "inside.pth")
    refused("inside.pth", None, "whole pickled object")
    torch.save(state, tmp_path / "cut.pth")
    _cut(tmp_path / "cut.pth")
    refused("cut.pth", None, "cut off")
    torch.save(state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    _cut(tmp_path / "old.pth")
    refused("old.pth", None, "cut off")
    save_file(state, tmp_path / "cut.safetensors")
    _cut(tmp_path / "cut.safetensors")
    refused("cut.safetensors", None, "cut off")
    with warnings.catch_warnings(action="ignore"):  # torch's own word on scripts
        torch.jit.save(torch.jit.script(nn.Linear(2, 2)), tmp_path / "script.pt")
    refused("script.pt", None, "ScriptModule")
    torch.save({"epoch": 3}, tmp_path / "none.pth")
    refused("none.pth", None, "no tensor")
    refused("empty.pth", b"", "is empty")
    refused("net.onnx", b"\x08\x07\x12", "ONNX")
    refused("net.h5", b"\x89HDF\r\n\x1a\n", "HDF5")
    refused("weights.pth", b"\x89HDF\r\n\x1a\n", "HDF5")
    refused("net.keras", b"PK\x03\x04", "Keras")
    refused("saved_model.pb", b"\x08\x01", "TensorFlow")
    refused("lfs.safetensors", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull")
    refused("page.pth", b"<!DOCTYPE html><html>", "web page")
    refused("noise.pth", b"abc" * 30, "not written by torch.save")


def test_safetensors_are_known_by_what_is_in_them(tmp_path: Path) -> None:
    donor, network = conv_net(seed=1), conv_net(seed=2)
    save_file(donor.state_dict(), tmp_path / "w.bin")
    fill(network, Saved.read(tmp_path / "w.bin", "a toy"), "a toy")
    assert torch.equal(network.state_dict()["8.bias"], donor.state_dict()["8.bias"])


def test_weights_that_are_not_numbers_are_noticed(tmp_path: Path) -> None:
    state = {**conv_net().state_dict(), "8.bias": torch.full((4,), float("nan"))}
    (note,) = fill(conv_net(), _saved(tmp_path, state), "a toy")
    assert "1 of the tensors" in note
    assert "8.bias" in note
