from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from torch import nn
from toys import toy_model

from featviz.errors import UserError
from featviz.network.models import Model, load_model
from featviz.network.spec import arguments, read_size, stated_of

NET = "from torch import nn\ndef make():\n    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU())\n"
TOML = """
network = "net.py:make"
weights = "weights/w.pth"
name = "greys"
size = [20, 30]
mean = [0.5]
std = [0.25]
interpolation = "bicubic"
crop = 1.0
labels = "names.txt"
default_layer = "0"
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "weights").mkdir()
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "names.txt").write_text("cat\ndog\nowl\n")
    (tmp_path / "model.toml").write_text(TOML)
    torch.manual_seed(5)
    torch.save(nn.Sequential(nn.Conv2d(1, 3, 3)).state_dict(), tmp_path / "weights" / "w.pth")
    return tmp_path


def _alike(one: Model, other: Model) -> bool:
    stated = {name: value for name, value in stated_of(one).items() if name != "name"}
    return one.fingerprint == other.fingerprint and stated.items() <= stated_of(other).items()


def test_a_file_of_settings_says_all_that_wrap_takes_relative_to_itself(
    home: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    model = load_model(str(home / "model.toml"), device="cpu")
    assert asdict(model.preprocess).items() >= {
        "size": (20, 30), "mean": (0.5,), "std": (0.25,), "interpolation": "bicubic", "crop": 1.0
    }.items()  # fmt: skip
    assert (model.name, model.labels, model.default_layer, model.notes) == ("greys", ("cat", "dog", "owl"), "0", ())
    assert torch.equal(model.network.state_dict()["0.weight"], torch.load(home / "weights" / "w.pth")["0.weight"])
    other = load_model(str(home / "model.toml"), device="cpu", size=64, labels="ab")
    assert (other.preprocess.size, other.preprocess.std, other.labels) == ((64, 64), (0.25,), ("a", "b"))


def test_settings_of_a_library_s_network_change_only_what_they_name(tmp_path: Path) -> None:
    (tmp_path / "m.toml").write_text('network = "timm/test_resnet"\nsize = "96x64"\nweights = "w.pth"\n')
    import timm

    torch.save(timm.create_model("test_resnet").state_dict(), tmp_path / "w.pth")
    plain = load_model("timm/test_resnet", weights=tmp_path / "w.pth", device="cpu")
    model = load_model(str(tmp_path / "m.toml"), device="cpu")
    assert model.preprocess == replace(plain.preprocess, size=(96, 64))
    assert (model.labels, model.default_layer) == (plain.labels, plain.default_layer)


@pytest.mark.parametrize("deeper", ["", "below/further"])
def test_what_is_saved_is_loaded_again(home: Path, deeper: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model(str(home / "model.toml"), device="cpu")
    odd = replace(model, labels=('a "quoted" name', "back\\slash\ttab", "délicat 🦉\x7f"))
    file = odd.save_spec(home / deeper / "again.toml")
    assert str(home) not in file.read_text(encoding="utf-8")  # the folder may be moved
    monkeypatch.chdir("/")
    again = load_model(str(file), device="cpu")
    assert _alike(odd, again)
    assert again.labels == odd.labels


def test_a_model_by_name_is_saved_by_name(tmp_path: Path, lite0: Model) -> None:
    again = load_model(str(lite0.save_spec(tmp_path / "lite.toml")), device="cpu")
    assert _alike(lite0, again)
    assert again.labels == lite0.labels


def test_a_wrapped_module_has_no_name_to_be_built_from(home: Path) -> None:
    with pytest.raises(UserError, match=r"toy was wrapped from a module.*give network="):
        toy_model().save_spec(home / "toy.toml")
    grey = Model.wrap(nn.Conv2d(1, 3, 3), size=8, mean=(0.5,), std=(0.5,), labels="abc")
    again = load_model(str(grey.save_spec(home / "grey.toml", network=f"{home}/net.py:make")), device="cpu")
    assert stated_of(again) == stated_of(grey)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('network = "net.py:make"\nmeans = [0.5]\n', "no setting of .* 'means'; the closest are 'mean'"),
        ("size = 3\n", r'needs the line network = "..."'),
        ('network = "net.py:make"\nweights = 3\n', "weights is the path of a file"),
        ('network = "net.py:make"\nlabels = 3\n', "labels is a file of names or a list"),
        ('network = "net.py:make"\nlabels = "absent.txt"\n', "no file of labels .*absent.txt"),
        ('network = "net.py:make"\nsize = "wide"\n', "224, or HEIGHTxWIDTH"),
        ('network = "net.py:mak"\n', r"model.toml: no name in .*net.py 'mak'; the closest are 'make'"),
        ('network = "other.toml"\n', "names another file of settings"),
        ('network = "net.py:make"\nbands = 7\n', "model.toml: bands takes a name for each input channel"),
        ('network = "net.py:make"\ndefault_layer = 3\n', "model.toml: default_layer is a text"),
        ('network = "net.py:make"\nlogits = true\n', "model.toml: logits is a key or a number"),
        ("network = net.py\n", "cannot be read as TOML"),
    ],
)
def test_settings_that_are_wrong_are_told_with_the_file(home: Path, text: str, said: str) -> None:
    (home / "model.toml").write_text(text)
    with pytest.raises(UserError, match=said):
        load_model(str(home / "model.toml"))
    with pytest.raises(UserError, match="no file"):
        load_model(str(home / "absent.toml"))


def test_every_argument_of_wrap_can_be_stated_and_is_kept_when_another_one_is() -> None:
    assert {"size", "mean", "std", "interpolation", "crop", "labels", "default_layer", "name"} <= set(arguments())
    assert set(arguments()) == set(stated_of(toy_model()))


@pytest.mark.parametrize(
    ("text", "size"), [("224", 224), ("256x128", (256, 128)), ("8X16", (8, 16)), ("8×16", (8, 16))]
)
def test_sizes_are_one_side_or_height_and_width(text: str, size: object) -> None:
    assert read_size(text, "--size") == size


@pytest.mark.parametrize("text", ["", "x", "12x", "3x4x5", "-3", "0", "1.5"])
def test_other_sizes_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="--size takes pixels"):
        read_size(text, "--size")
