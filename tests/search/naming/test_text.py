from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from toys import noise_folder

from featviz.errors import UserError
from search.images.images import open_images
from search.naming.text import ONE_IN, Words

open_clip = pytest.importorskip("open_clip")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small network of images and text, its weights in a file: NAME/FILE, as `Words` takes it."""
    folder = tmp_path_factory.mktemp("clip")
    config = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "patch_size": 16, "head_width": 16},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
    }
    (folder / "tiny-clip.json").write_text(json.dumps(config), encoding="utf-8")
    open_clip.add_model_config(folder / "tiny-clip.json")
    torch.manual_seed(0)
    torch.save(open_clip.create_model("tiny-clip").state_dict(), folder / "weights.pt")
    return f"tiny-clip/{folder / 'weights.pt'}"


def test_a_word_is_true_of_the_photographs_that_it_fits_best_beside_other_words(tmp_path: Path, tiny: str) -> None:
    images = open_images(noise_folder(tmp_path / "images", 40))
    words = ("cat", "dog", "left-handed spoon")
    concepts = Words(words, tiny).of(images, range(len(images)))
    assert concepts.names == words
    assert concepts.by == f"open_clip {tiny}"
    assert concepts.known.all()
    assert concepts.members.sum(0).tolist() == [len(images) // ONE_IN] * 3
    network, _, preprocess = open_clip.create_model_and_transforms("tiny-clip", pretrained=tiny.partition("/")[2])
    network.eval()
    with torch.inference_mode():
        text = network.encode_text(open_clip.get_tokenizer("tiny-clip")([f"a photo of a {word}." for word in words]))
        seen = network.encode_image(torch.stack([preprocess(images.open(number)) for number in range(len(images))]))
    cosines = torch.cosine_similarity(seen[:, None], text[None], dim=2)
    wanted = (cosines - cosines.mean(1, keepdim=True)).numpy()
    assert np.allclose(concepts.graded, wanted, atol=1e-4)  # another resampling in between
    best = np.argsort(-wanted[:, 1])[: len(images) // ONE_IN]
    assert set(np.flatnonzero(concepts.members[:, 1])) == set(best)


def test_images_that_cannot_be_opened_take_no_part(tmp_path: Path, tiny: str) -> None:
    folder = noise_folder(tmp_path / "images", 25)
    (folder / "000-damaged.png").write_bytes(b"no picture")
    concepts = Words(("cat", "dog"), tiny).of(open_images(folder), range(26))
    assert concepts.known.sum() == 25
    assert not concepts.members[~concepts.known].any()


def test_what_cannot_be_had_is_refused(tmp_path: Path, tiny: str) -> None:
    file = tmp_path / "words.txt"
    file.write_text("cat\n\n  cat \n", encoding="utf-8")
    with pytest.raises(UserError, match="at least two words"):
        Words.of_file(file, tiny)
    file.write_text("cat\n wild   dog\n", encoding="utf-8")
    assert Words.of_file(file, tiny).words == ("cat", "wild dog")
    with pytest.raises(UserError, match="cannot be read"):
        Words.of_file(tmp_path / "none.txt", tiny)
    images = open_images(noise_folder(tmp_path / "images", 2))
    with pytest.raises(UserError, match="no network of open_clip 'ViT-B-31'; the closest are"):
        Words(("a", "b"), "ViT-B-31").of(images, range(2))
    with pytest.raises(UserError, match="no weights of ViT-B-32 'laion'"):
        Words(("a", "b"), "ViT-B-32/laion").of(images, range(2))
