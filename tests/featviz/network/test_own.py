from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from featviz.errors import UserError
from featviz.network.label_file import read_labels
from featviz.network.models import load_model

NET = """
import torch
from torch import nn
from featviz import Model
import own_layers

def make():
    print("building")
    return own_layers.Doubled(nn.Conv2d(3, 4, 3))

def late():
    return own_layers.Late()

class Net(nn.Sequential):
    def __init__(self, width=5):
        super().__init__(nn.Conv2d(1, width, 3), nn.ReLU())

ready = nn.Sequential(nn.Conv2d(3, 2, 1))

def stated():
    return Model.wrap(Net(), name="grey", size=(12, 16), mean=[0.5], std=[0.25])

def needs(depth, *, width):
    return Net()

def nothing():
    Net()

def weights():
    return {"a": torch.ones(1)}

def wrong():
    layer = nn.Linear(3, 2)
    return layer(torch.ones(1, 4))

def ends():
    raise SystemExit(2)

def careless():
    torch.set_grad_enabled(False)
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(7)
    return Net()
"""
LAYERS = """
from torch import nn

class Doubled(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner
    def forward(self, images):
        return 2 * self.inner(images)

class Late(nn.Module):
    def forward(self, images):
        import own_helper
        return own_helper.half(images)
"""


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A folder with a file of networks, and what that imports; afterwards nothing of it is left in this process."""
    folder = tmp_path / "home"
    (folder / "own_package").mkdir(parents=True)
    (folder / "own_net.py").write_text(NET)
    (folder / "own_layers.py").write_text(LAYERS)
    (folder / "own_helper.py").write_text("def half(images):\n    return images / 2\n")
    (folder / "own_package" / "__init__.py").write_text("")
    (folder / "own_package" / "parts.py").write_text("from torch import nn\nlayer = nn.Conv2d(3, 7, 1)\n")
    (folder / "own_package" / "whole.py").write_text("from .parts import layer\ndef make():\n    return layer\n")
    path, modules = list(sys.path), set(sys.modules)
    yield folder
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name.startswith("own_"):
            del sys.modules[name]


def test_functions_classes_and_networks_of_a_file_are_taken(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = load_model(f"{home}/own_net.py:make", device="cpu", size=8)
    image = torch.ones(1, 3, 8, 8)
    assert torch.equal(model.network(image), 2 * model.network.inner(image))  # type: ignore[operator]
    assert capsys.readouterr().out == ""  # where a result as JSON may stand
    assert load_model(f"{home}/own_net.py:Net", device="cpu").network[0].out_channels == 5  # type: ignore[index]
    assert len(load_model(f"{home}/own_net.py:ready", device="cpu").network) == 1  # type: ignore[arg-type]
    assert load_model(f"{home}/own_package/whole.py:make", device="cpu").network.out_channels == 7
    assert torch.equal(load_model(f"{home}/own_net.py:late", device="cpu").network(image), image / 2)


def test_a_module_is_found_from_the_current_folder(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    assert load_model("own_package.whole:make", device="cpu").network.out_channels == 7
    assert load_model("own_net:Net", device="cpu").name == "own_net:Net"


def test_what_is_not_stated_is_told_and_what_is_stated_holds(home: Path) -> None:
    unsaid = load_model(f"{home}/own_net.py:make", device="cpu", mean=(0.1,) * 3)
    assert "size, std of" in unsaid.notes[0]
    assert unsaid.preprocess.mean == (0.1,) * 3
    said = load_model(f"{home}/own_net.py:make", device="cpu", size=9, mean=(0.5,) * 3, std=(0.5,) * 3)
    assert said.notes == ()
    grey = load_model(f"{home}/own_net.py:stated", device="cpu")
    assert (grey.name, grey.preprocess.size, grey.preprocess.mean, grey.notes) == ("grey", (12, 16), (0.5,), ())
    other = load_model(f"{home}/own_net.py:stated", device="cpu", size=32, labels="ab")
    assert (other.preprocess.size, other.preprocess.std, other.labels) == ((32, 32), (0.25,), ("a", "b"))
    with pytest.raises(UserError, match="no setting of load_model 'sizes'; the closest are 'size'"):
        load_model(f"{home}/own_net.py:make", sizes=3)


def test_random_weights_are_the_same_each_time_and_the_process_stays_as_it_was(home: Path) -> None:
    torch.manual_seed(3)
    drawn = torch.rand(2)
    torch.manual_seed(3)
    one = load_model(f"{home}/own_net.py:careless", device="cpu")
    assert torch.equal(torch.rand(2), drawn)
    plain, other = load_model(f"{home}/own_net.py:Net"), load_model(f"{home}/own_net.py:careless")
    torch.rand(1)
    assert load_model(f"{home}/own_net.py:Net").fingerprint == plain.fingerprint
    assert one.fingerprint == other.fingerprint != plain.fingerprint
    assert torch.is_grad_enabled()
    assert torch.get_default_dtype() == torch.float32


def test_a_file_that_was_changed_is_read_anew(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    file = home / "own_new.py"
    for width in (3, 4):  # of the same length, within a second
        file.write_text(f"from torch import nn\nlayer = nn.Conv2d(3, {width}, 1)\n")
        os.utime(file, (10**9, 10**9))
        assert load_model(f"{file}:layer", device="cpu").network.out_channels == width


@pytest.mark.parametrize("address", ["own_main.py", "own_twin/whole.py", "own_loose:layer", "own_twin.whole:layer"])
def test_a_second_folder_gets_its_own_code(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    found = []
    for width in (3, 4, 3):
        folder = tmp_path / f"of_{width}"
        (folder / "own_twin").mkdir(parents=True, exist_ok=True)
        (folder / "own_space").mkdir(exist_ok=True)
        layer = f"from torch import nn\nlayer = nn.Conv2d(3, {width}, 1)\n"
        (folder / "own_parts.py").write_text(layer)
        (folder / "own_space" / "parts.py").write_text(layer)
        (folder / "own_loose.py").write_text("from own_space.parts import layer\n")
        (folder / "own_main.py").write_text("from own_parts import layer\n")
        (folder / "own_twin" / "__init__.py").write_text("")
        (folder / "own_twin" / "parts.py").write_text(layer)
        (folder / "own_twin" / "whole.py").write_text("from .parts import layer\n")
        monkeypatch.chdir(folder)
        found.append(load_model(address if ":" in address else f"{folder}/{address}:layer", device="cpu").network)
    assert [network.out_channels for network in found] == [3, 4, 3]


def test_what_is_installed_below_a_folder_is_no_namesake(home: Path, tmp_path: Path) -> None:
    packages, other = home / "env" / "packages", tmp_path / "other"
    packages.mkdir(parents=True)
    (packages / "own_installed.py").write_text("")
    load_model(f"{home}/own_net.py:Net", device="cpu")
    sys.path.insert(0, str(packages))
    installed = importlib.import_module("own_installed")
    (other / "own_installed").mkdir(parents=True)
    (other / "own_second.py").write_text("from torch import nn\nlayer = nn.Conv2d(3, 3, 1)\n")
    load_model(f"{other}/own_second.py:layer", device="cpu")
    assert sys.modules["own_installed"] is installed


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("own_net.py:mak", r"no name in .*own_net.py 'mak'; the closest are 'make'"),
        ("own_net.py", "behind a colon: .*own_net.py:make"),
        ("own_nett.py:make", "no file .*own_nett.py'; the closest are .*own_net.py'"),
        ("own_net.py:needs", r"takes arguments \(depth, width\)"),
        ("own_net.py:nothing", "returned nothing; is there a `return`"),
        ("own_net.py:weights", "returned dict"),
        ("own_net.py:wrong", r"failed: own_net.py:\d+: RuntimeError: mat1 and mat2"),
        ("own_net.py:ends", "own_net.py:.*SystemExit: the program ended itself.*__main__"),
        ("own_net.py:NET", "no name"),
        ("own_syntax.py:make", "own_syntax.py:2: SyntaxError"),
        ("own_missing.py:make", "own_missing.py:1: ModuleNotFoundError: No module named 'own_nowhere'"),
    ],
)
def test_errors_name_the_place_in_one_paragraph(home: Path, name: str, said: str) -> None:
    (home / "own_syntax.py").write_text("x = 1\ndef make(:\n")
    (home / "own_missing.py").write_text("import own_nowhere\n")
    with pytest.raises(UserError, match=said) as told:
        load_model(f"{home}/{name}")
    assert "\n" not in str(told.value)


def test_weights_are_put_into_a_network_of_ones_own(home: Path, tmp_path: Path) -> None:
    donor = nn.Sequential(nn.Conv2d(1, 5, 3), nn.ReLU())
    torch.save({"model_state_dict": {f"module.{name}": value for name, value in donor.state_dict().items()}},
               tmp_path / "w.pt")  # fmt: skip
    model = load_model(f"{home}/own_net.py:stated", weights=tmp_path / "w.pt", device="cpu")
    assert torch.equal(model.network.state_dict()["0.weight"], donor[0].weight)
    assert "'module.'" in model.notes[0]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.txt", "cat\nwild dog\nowl\n\n"),
        ("a.json", '["cat", "wild dog", "owl"]'),
        ("a.json", '{"1": "wild dog", "0": "cat", "2": "owl"}'),
        ("a.json", '{"owl": 2, "cat": 0, "wild dog": 1}'),
        ("a.json", '{"id2label": {"0": "cat", "1": "wild dog", "2": "owl"}, "hidden_size": 3}'),
        ("a.csv", "name,n\ncat,1\nwild dog,1\nowl,1\n"),
        ("a.csv", "class_index,name\n2,owl\n0,cat\n1,wild dog\n1,wild dog\n"),
        ("a.json", '{"0": ["n1", "cat"], "1": ["n2", "wild dog"], "2": ["n3", "owl"]}'),
        ("a.csv", 'index, name\n0, "cat"\n1, "wild dog"\n2, "owl"\n'),
        ("a.csv", "label,name\n2,owl\n0,cat\n1,wild dog\n"),
        ("a.csv", "class_id,name\n2,owl\n0,cat\n1,wild dog\n"),
        ("a.csv", "class,label\nowl,2\ncat,0\nwild dog,1\n"),
        ("a.csv", "label,category\n2,owl\n0,cat\n1,wild dog\n"),
        ("a.csv", "name,category\ncat,1\nwild dog,1\nowl,2\n"),
        ("a.csv", "index,name\n0,cat,\n1,wild dog\n2,owl\n"),
    ],
)
def test_class_names_come_from_text_json_and_tables(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8-sig")
    assert read_labels(tmp_path / name) == ("cat", "wild dog", "owl")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.txt", "", "names no class"),
        ("a.txt", "cat\n\nowl\n", "no name for class 1"),
        ("a.json", '{"0": "cat", "2": "owl"}', "no name for class 1"),
        ("a.json", '{"1": "cat", "2": "owl"}', "no name for class 0"),
        ("a.json", "[1, 2", "no JSON"),
        ("a.csv", "file,kind\n1,2\n", "a column called name; it has file, kind"),
        ("a.csv", "class_index,name\n1,cat\nx,owl\n", "a number in each row"),
        ("a.csv", "class_index,name\n²,cat\n", "a number in each row"),
        ("a.csv", "index,name\n0,tench, Tinca tinca\n", "more fields than columns in the row 0, tench, .*quotes"),
        ("a.csv", "index,name\n0,cat\n0,dog\n1,owl\n", "gives class 0 two names, 'cat' and 'dog'"),
        ("a.json", '{"cat": 0, "kitten": 0, "dog": 1}', "gives class 0 two names, 'cat' and 'kitten'"),
        ("a.json", '{"0": "cat", "1": null}', "has None for the name of a class, and a name is a text"),
        ("a.json", '{"0": {"name": "cat"}}', "a name is a text"),
    ],
)
def test_class_names_with_gaps_are_refused(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=said):
        read_labels(tmp_path / name)
    with pytest.raises(UserError, match="no file of labels"):
        read_labels(tmp_path / "absent.txt")


def test_digits_are_names_where_nothing_else_is(tmp_path: Path) -> None:
    for name, text in (
        ("a.csv", "label\n7\n9\n"),
        ("a.csv", "index,label\n1,9\n0,7\n"),
        ("a.json", '{"0": 7, "1": 9}'),
    ):
        (tmp_path / name).write_text(text)
        assert read_labels(tmp_path / name) == ("7", "9")
