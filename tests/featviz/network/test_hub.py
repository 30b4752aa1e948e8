from __future__ import annotations

import builtins
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from featviz.errors import UserError
from featviz.network.models import load_model

transformers = pytest.importorskip("transformers")
open_clip = pytest.importorskip("open_clip")


def _resnet(labels: dict[int, str] | None = None) -> Any:
    named = {} if labels is None else {"id2label": labels, "label2id": {name: i for i, name in labels.items()}}
    return transformers.ResNetConfig(embedding_size=4, hidden_sizes=[4, 6], depths=[1, 1], num_labels=3, **named)


def _saved(folder: Path, network: Any, processor: Any = None) -> str:
    network.save_pretrained(folder)
    if processor is not None:
        processor.save_pretrained(folder)
    return f"hf:{folder}"


def test_a_classifier_of_transformers_comes_with_its_classes_and_its_own_preparation(tmp_path: Path) -> None:
    processor = transformers.EfficientNetImageProcessor(
        size={"height": 24, "width": 24}, rescale_factor=1 / 127.5, rescale_offset=True
    )
    network = transformers.ResNetForImageClassification(_resnet({0: "cat", 1: "dog", 2: "owl"})).eval()
    model = load_model(_saved(tmp_path / "net", network, processor), device="cpu")
    assert model.labels == ("cat", "dog", "owl")
    assert model.preprocess.size == (24, 24)
    pixels = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    wanted = torch.as_tensor(np.array(processor(Image.fromarray(pixels))["pixel_values"]))
    inputs = model.preprocess.normalize(torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255)
    assert torch.allclose(inputs, wanted, atol=1e-4)
    with torch.inference_mode():
        assert torch.equal(model.network(wanted).logits, network(wanted).logits)
    assert "squeezes images" in model.notes[0]


@pytest.mark.parametrize(("number", "name"), [(0, "nearest"), (1, "lanczos"), (3, "bicubic")])
def test_images_are_scaled_as_the_processor_scales_them(tmp_path: Path, number: int, name: str) -> None:
    processor = transformers.ViTImageProcessor(size={"height": 24, "width": 24})
    address = _saved(tmp_path, transformers.ResNetForImageClassification(_resnet()), processor)
    said = json.loads((tmp_path / "preprocessor_config.json").read_text())
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({**said, "resample": number}))
    assert load_model(address, device="cpu").preprocess.interpolation == name


def test_a_folder_is_found_again_from_settings_saved_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = tmp_path / "runs"
    network = transformers.ResNetForImageClassification(_resnet()).eval()
    _saved(runs / "net", network)
    (runs / "m.toml").write_text('network = "hf:net"\nsize = 32\n')
    file = load_model(str(runs / "m.toml"), device="cpu").save_spec(tmp_path / "out" / "m.toml")
    assert 'network = "hf:../runs/net"' in file.read_text()
    monkeypatch.chdir(tmp_path)
    again = load_model("out/m.toml", device="cpu")
    assert torch.equal(again.network.state_dict()["classifier.1.bias"], network.state_dict()["classifier.1.bias"])


def test_what_is_saved_without_a_head_gets_none(tmp_path: Path) -> None:
    processor = transformers.ConvNextImageProcessor(size={"shortest_edge": 32}, crop_pct=0.8)
    model = load_model(_saved(tmp_path / "net", transformers.ResNetModel(_resnet()), processor), device="cpu")
    assert type(model.network).__name__ == "ResNetModel"
    assert model.labels == ()
    assert (model.preprocess.size, model.preprocess.crop, model.preprocess.interpolation) == ((32, 32), 0.8, "bicubic")
    assert model.notes == ()
    plain = load_model(_saved(tmp_path / "plain", transformers.ResNetForImageClassification(_resnet())), device="cpu")
    assert plain.labels == ()  # LABEL_0 is no name
    assert "no image processor" in plain.notes[0]


def test_of_a_network_of_images_and_text_the_half_that_sees_is_taken(tmp_path: Path) -> None:
    small = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    config = transformers.CLIPConfig(
        text_config={**small, "vocab_size": 50, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0},
        vision_config={**small, "image_size": 16, "patch_size": 8},
        projection_dim=4,
    )
    model = load_model(_saved(tmp_path / "clip", transformers.CLIPModel(config)), device="cpu")
    assert model.network(torch.zeros(1, 3, 16, 16)).pooler_output.shape == (1, 8)
    words = transformers.BertModel(transformers.BertConfig(**small, vocab_size=50))
    with pytest.raises(UserError, match="BertModel, which takes no images"):
        load_model(_saved(tmp_path / "words", words))


def test_what_cannot_be_had_is_told_in_one_paragraph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="no folder"):
        load_model(f"hf:{tmp_path}/absent")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="cannot be had") as told:
        load_model(f"hf:{tmp_path}")
    assert "\n" not in str(told.value)
    with pytest.raises(UserError, match=f"--model hf:{tmp_path}"):
        load_model(str(tmp_path))
    kept = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name in ("transformers", "open_clip"):
            raise ImportError(name)
        return kept(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r"pip install 'activation-atlas\[hf\]'"):
        load_model("hf:any/thing")
    with pytest.raises(UserError, match=r"pip install 'activation-atlas\[text\]'"):
        load_model("open_clip:ViT-B-32/openai")


def test_the_half_of_open_clip_that_sees_comes_from_a_folder(tmp_path: Path) -> None:
    config = {
        "embed_dim": 8,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 16, "patch_size": 16, "head_width": 8},
        "text_cfg": {"context_length": 8, "vocab_size": 50, "width": 16, "heads": 2, "layers": 1},
    }
    (tmp_path / "tiny-seer.json").write_text(json.dumps(config), encoding="utf-8")
    open_clip.add_model_config(tmp_path / "tiny-seer.json")
    whole = open_clip.create_model("tiny-seer").eval()
    (tmp_path / "kept").mkdir()
    torch.save(whole.state_dict(), tmp_path / "kept" / "open_clip_pytorch_model.bin")
    model = load_model(f"open_clip:tiny-seer@{tmp_path}/kept", device="cpu")
    images = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.allclose(model.network(images), whole.encode_image(images))
    assert model.preprocess.size == (32, 32)
    assert model.preprocess.mean == tuple(whole.visual.preprocess_cfg["mean"])
    (tmp_path / "m.toml").write_text('network = "open_clip:tiny-seer@kept"\n')
    saved = load_model(str(tmp_path / "m.toml"), device="cpu").save_spec(tmp_path / "out" / "m.toml")
    assert 'network = "open_clip:tiny-seer@../kept"' in saved.read_text()
    assert load_model(str(saved), device="cpu").fingerprint == model.fingerprint
    with pytest.raises(UserError, match="no folder"):
        load_model(f"open_clip:tiny-seer@{tmp_path}/absent")
    with pytest.raises(UserError, match="no network of open_clip 'tiny-see'; the closest are 'tiny-seer'"):
        load_model("open_clip:tiny-see/openai")
