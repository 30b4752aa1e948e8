"""Names from a list of words, by how well a network of images and text thinks that they fit photographs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from featviz.errors import UserError
from featviz.network.hub import clip_network, visual_half
from featviz.progress import Progress, silent

from ..images.images import Images
from .vocabulary import Bools, Concepts, answers

# A word is true of the photographs that it fits best: of one in so many.
ONE_IN = 20
_SENTENCE = "a photo of a {}."
# Words at once.
_BATCH = 32


@dataclass(frozen=True)
class Words:
    """A list of words as a vocabulary, by a network of open_clip (extra: text).

    `words`; `network`: NAME or NAME/PRETRAINED as open_clip names them, such as ViT-B-32/laion2b_s34b_b79k; without
    PRETRAINED its weights are random. A word is true of the twentieth of the photographs whose embeddings are most like
    that of "a photo of a WORD.", beside how much they are like all words' on average. Radford et al. 2021, "Learning
    Transferable Visual Models From Natural Language Supervision"; Oikarinen and Weng 2023, "CLIP-Dissect".
    """

    words: tuple[str, ...]
    network: str
    device: str = "cpu"

    @classmethod
    def of_file(cls, file: str | Path, network: str, *, device: str = "cpu") -> Words:
        """The words of a text file, one on each line; raises `UserError` for a file without two of them."""
        try:
            lines = Path(file).read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"--words takes a UTF-8 text with a word on each line; {file} cannot be read.") from error
        words = tuple(dict.fromkeys(" ".join(line.split()) for line in lines if line.strip()))
        if len(words) < 2:
            raise UserError(f"--words takes at least two words, one on each line; {file} has {len(words)}.")
        return cls(words, network, device)

    def of(self, images: Images, numbers: Sequence[int], *, progress: Progress = silent) -> Concepts:
        """Raises `UserError` where open_clip or the network cannot be had."""
        network, tokenizer = _load(self.network, self.device)
        pictures = answers(visual_half(network, self.network), images, numbers, progress=progress)
        known: Bools = np.isfinite(pictures[:, 0])
        with torch.inference_mode():
            text = self._embedded_words(network, tokenizer).float().cpu().numpy()
        likeness = pictures / np.linalg.norm(pictures, axis=1, keepdims=True) @ text.T
        beside = likeness - likeness.mean(1, keepdims=True)
        count = max(1, int(known.sum()) // ONE_IN)
        members = np.zeros(likeness.shape, np.bool_)
        best = np.argsort(-np.nan_to_num(beside, nan=-np.inf), axis=0, kind="stable")[:count]
        np.put_along_axis(members, best, True, axis=0)
        return Concepts(self.words, members & known[:, None], known, f"open_clip {self.network}", {}, beside)

    def _embedded_words(self, network: Any, tokenizer: Any) -> Tensor:
        found = []
        for start in range(0, len(self.words), _BATCH):
            tokens = tokenizer([_SENTENCE.format(word) for word in self.words[start : start + _BATCH]])
            found.append(F.normalize(network.encode_text(tokens.to(self.device)), dim=1))
        return torch.cat(found)


def _load(network: str, device: str) -> tuple[Any, Any]:
    """A network of open_clip, and what prepares its words."""
    made = clip_network(network, device)
    import open_clip

    return made, open_clip.get_tokenizer(network.partition("/")[0])
