"""Networks of Hugging Face's transformers and of open_clip, by name or from a folder, with how images enter them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import UserError, unknown
from .arguments import interpolation_name
from .label_file import in_order
from .models import IMAGENET_MEAN, IMAGENET_STD, Model

_HEAD = "ForImageClassification"
_BILINEAR = 2  # Pillow's number of the filter, as a processor's settings have it
_WEIGHTS = ("*.safetensors", "*.bin", "*.pt", "*.pth")


def load_hf(name: str, folder: Path | None = None) -> Model:
    """A network of transformers: the classifier where the saved one is one, else what gives features.

    `name`: as the hub has it, or a folder that save_pretrained wrote; `folder`: where a relative one begins.

    Raises `UserError` without the extra `hf`, and for a network that cannot be had or takes no images.
    """
    place = _folder(name, folder)
    try:
        import transformers
    except ImportError as error:
        raise UserError("hf: needs transformers: pip install 'activation-atlas[hf]'") from error
    with _quiet(transformers):
        config = _had(transformers.AutoConfig.from_pretrained, place)
        heads = any(_HEAD in str(each) for each in config.architectures or ())
        kind = transformers.AutoModelForImageClassification if heads else transformers.AutoModel
        network, loading = _had(kind.from_pretrained, place, output_loading_info=True)
        how, notes = _preprocess(transformers, place, config)
    if missing := sorted(loading.get("missing_keys", ())):
        notes.append(f"{name} lacks {len(missing)} tensors, which are random now, such as {missing[0]!r}.")
    if getattr(network, "main_input_name", "pixel_values") != "pixel_values":
        if not hasattr(network, "vision_model"):
            raise UserError(f"hf:{name} is a {type(network).__name__}, which takes no images.")
        network = network.vision_model
        notes.append(f"of {name}, the half that sees images.")
    labels = _labels(config) if heads else ()
    made = Model.wrap(network.float().eval(), name=f"hf:{name}", labels=labels, **how)
    return replace(made, notes=(*made.notes, *notes))


def load_open_clip(name: str, folder: Path | None = None) -> Model:
    """The half of a network of open_clip that sees images.

    `name`: NAME/PRETRAINED as open_clip lists them, or NAME@FOLDER, a folder (or file) with its weights; `folder`:
    where a relative one begins.

    Raises `UserError` without the extra `text`, and for a network or weights that cannot be had.
    """
    known, at, place = name.partition("@")
    if not at:
        return visual_half(clip_network(name), f"open_clip:{name}")
    return visual_half(clip_network(f"{known}/{_weights_in(Path(_folder(place, folder)))}"), f"open_clip:{name}")


def clip_network(name: str, device: str = "cpu") -> Any:
    """A network of open_clip; `name`: NAME or NAME/PRETRAINED, where PRETRAINED may be a file."""
    try:
        import open_clip
    except ImportError as error:
        raise UserError("networks of open_clip need the extra: pip install 'activation-atlas[text]'") from error
    short, _, pretrained = name.partition("/")
    if short not in open_clip.list_models():
        raise unknown("network of open_clip", short, open_clip.list_models())
    known = open_clip.list_pretrained_tags_by_model(short)
    if pretrained and pretrained not in known and not Path(pretrained).is_file():
        raise unknown(f"weights of {short}", pretrained, known or ["a file"])
    made = _had(open_clip.create_model, short, pretrained=pretrained or None, device=device)
    return made.eval()


def visual_half(network: Any, name: str) -> Model:
    """The half of a network of open_clip that sees images, prepared as open_clip prepares them."""
    how = network.visual.preprocess_cfg
    return Model.wrap(
        network.visual, name=name, size=how["size"], mean=how["mean"], std=how["std"], crop=1.0,
        interpolation=how["interpolation"],
    )  # fmt: skip


def _folder(name: str, folder: Path | None) -> str:
    place = (folder or Path()) / Path(name).expanduser()
    if place.exists():
        return str(place)
    if name.startswith((".", "/", "~")):
        raise UserError(f"no folder {str(place)!r}.")
    return name


def _had(get: Any, place: str, **options: Any) -> Any:
    """What a library makes of a name; what it raises is told in one paragraph."""
    try:
        return get(place, **options)
    except (OSError, ValueError, RuntimeError, KeyError, ImportError) as error:
        lines = [" ".join(line.split()) for line in str(error).splitlines() if line.strip()]
        raise UserError(f"{place!r} cannot be had: {' '.join(lines[:2])[:300] or type(error).__name__}") from error


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Without the library's own notes and bars."""
    logs, calls = transformers.utils.logging, logging.getLogger("huggingface_hub")
    before = calls.level
    level, bars = logs.get_verbosity(), logs.is_progress_bar_enabled()
    logs.set_verbosity_error()
    calls.setLevel(logging.ERROR)
    logs.disable_progress_bar()
    try:
        yield
    finally:
        logs.set_verbosity(level)
        calls.setLevel(before)
        if bars:
            logs.enable_progress_bar()


def _labels(config: Any) -> tuple[str, ...]:
    """Class names; () where they are those that transformers makes up."""
    names = in_order(config.id2label, "id2label")
    return () if all(name == f"LABEL_{number}" for number, name in enumerate(names)) else tuple(names)


def _preprocess(transformers: Any, place: str, config: Any) -> tuple[dict[str, Any], list[str]]:
    """Arguments of `Model.wrap` from the image processor, and notes on what cannot be had just so."""
    channels = int(getattr(config, "num_channels", 3) or 3)
    try:
        processor = transformers.AutoImageProcessor.from_pretrained(place)
    except (OSError, ValueError, ImportError):
        size = getattr(config, "image_size", 224) or 224
        how = {"size": tuple(size) if isinstance(size, (list, tuple)) else size}
        usual = (IMAGENET_MEAN, IMAGENET_STD) if channels == 3 else ((0.5,) * channels, (0.5,) * channels)
        note = "it has no image processor: how images enter is taken for ImageNet's; state it where that is wrong."
        return {**how, "mean": usual[0], "std": usual[1]}, [note]
    how, notes = {**_geometry(processor.to_dict()), **_measured(processor, place, channels)}, []
    if how.pop("squeezed"):
        notes.append("its processor squeezes images to its input's shape; here their central part is taken, as it is.")
    return how, notes


def _measured(processor: Any, place: str, channels: int) -> dict[str, Any]:
    """Size, mean and deviation by what the processor makes of a black and a white image: whatever its settings mean."""
    from PIL import Image

    made = [
        torch.as_tensor(np.array(processor(Image.new("RGB", (512, 512), (value,) * 3))["pixel_values"])).float()
        for value in (0, 255)
    ]
    if made[0].dim() != 4:
        raise UserError(f"the image processor of {place!r} makes no picture of an image, but {tuple(made[0].shape)}.")
    black, white = (each[0].mean((1, 2))[:channels].double() for each in made)
    return {
        "size": tuple(made[0].shape[2:]),
        "mean": tuple(round(each, 6) for each in (-black / (white - black)).tolist()),
        "std": tuple(round(each, 6) for each in (1 / (white - black)).tolist()),
    }


def _geometry(said: Mapping[str, Any]) -> dict[str, Any]:
    """Crop and interpolation, by settings; `squeezed`: whether the proportions of an image are not kept."""
    resize, size = said.get("do_resize", True), said.get("size") or {}
    size = {"shortest_edge": size} if isinstance(size, int) else dict(size)
    edge, pair = size.get("shortest_edge"), (size.get("height"), size.get("width"))
    share, squeezed = 1.0, bool(resize and pair[0])
    if said.get("do_center_crop") and said.get("crop_size"):
        cut = said["crop_size"]
        view = (cut, cut) if isinstance(cut, int) else (cut["height"], cut["width"])
        before = (edge or min(filter(None, pair), default=min(view))) if resize else min(view)
        share, squeezed = min(1.0, min(view) / before), False
    elif edge and said.get("crop_pct"):  # ConvNeXt's: below 384 pixels it is scaled up first, then cut
        share, squeezed = (float(said["crop_pct"]), False) if edge < 384 else (1.0, True)
    resample = said.get("resample")
    by = interpolation_name(_BILINEAR if resample is None else resample)
    return {"crop": share, "interpolation": by, "squeezed": squeezed}


def _weights_in(place: Path) -> Path:
    """The file of weights in a folder, or the file itself."""
    if place.is_file():
        return place
    found = [file for pattern in _WEIGHTS for file in sorted(place.glob(pattern))] if place.is_dir() else []
    clip = [file for file in found if file.name.startswith("open_clip")] or found
    if not clip:
        raise UserError(f"no weights in {str(place)!r}: a .safetensors, .bin or .pt file is wanted there.")
    if len(clip) > 1 and len({file.stem for file in clip}) > 1:
        names = ", ".join(file.name for file in clip)
        raise UserError(f"{str(place)!r} holds several files of weights ({names}): give one, NAME@FOLDER/FILE.")
    return clip[0]
