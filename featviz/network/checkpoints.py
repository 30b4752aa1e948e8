"""Weights as training programs save them -> the network that they fit: wrappers and prefixes are left out, and told."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UserError, closest
from .weights_file import read_weights, whole_classes, whole_network

# Parts of names that come of how a network was run, wherever they stand in a name.
_RUN = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
# Of several state dicts that fit, and of several prefixes, the first of these.
_USUAL = ("", "state_dict", "model_state_dict", "model", "net", "network", "module", "student", "encoder", "backbone")
# Averages over training, or copies that follow: never taken in place of the network itself.
_AVERAGE = re.compile(r"(^|[._/])(ema|teacher|momentum|swa|averaged?|shadow|target|encoder_k)([._/]|$)", re.IGNORECASE)
_SHOWN = 3


@dataclass(frozen=True)
class Saved:
    """What a file of weights holds: its state dicts by the keys that lead to them, outermost first."""

    file: Path
    state_dicts: Mapping[tuple[str, ...], Mapping[str, Tensor]]

    @classmethod
    def read(cls, file: str | Path, of: str) -> Saved:
        """Raises `UserError` for a file without tensors (see `weights_file.read_weights`). `of`: for errors."""
        file = Path(file)
        content = read_weights(file, of)
        found = dict(_state_dicts(content))
        if not found:
            if kinds := whole_classes(content):
                raise whole_network(file, of, kinds[0])
            raise UserError(f"{file} does not hold weights for {of}: there is no tensor in it.")
        return cls(file, found)


@dataclass(frozen=True)
class Match:
    """How the tensors of a file fit a network.

    `tensors`: what fits, under the network's own names; `missing`, `unexpected`: names, as the file has them but for
    what was left out; `shapes`: name -> (shape in the file, shape in the network); `way`: the keys and the prefix that
    lead to the tensors, `put`: the prefix of the network that the file lacks; `outside`: names beside that prefix.
    """

    tensors: Mapping[str, Tensor]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    shapes: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]
    way: tuple[str, ...]
    prefix: str
    put: str
    outside: tuple[str, ...]

    @property
    def exact(self) -> bool:
        return not (self.missing or self.unexpected or self.shapes)

    @property
    def heads(self) -> tuple[int, int] | None:
        """Numbers of classes in the file and in the network, where nothing but the heads' first dimension differs."""
        pairs = [(theirs[:1], ours[:1]) for theirs, ours in self.shapes.values()]
        alike = all(theirs[1:] == ours[1:] and theirs and ours for theirs, ours in self.shapes.values())
        if self.missing or self.unexpected or len(set(pairs)) != 1 or not alike or len(self.shapes) > 4:
            return None
        return (pairs[0][0][0], pairs[0][1][0])

    @property
    def average(self) -> bool:
        return bool(_AVERAGE.search("/".join((*self.way, self.prefix))))


def match(network: nn.Module, saved: Saved) -> tuple[Match, tuple[str, ...]]:
    """The part of a file that fits a network best, and where an average of it lies beside that.

    Raises `UserError` where several parts fit and nothing says which is meant.
    """
    own = {_named(name): name for name in network.state_dict() if not name.endswith("num_batches_tracked")}
    found = [each for way, tensors in saved.state_dicts.items() for each in _matches(network, own, way, tensors)]
    found.sort(key=lambda each: (not each.exact, each.heads is None, -len(each.tensors), each.average, _usual(each)))
    best, equals = found[0], [each for each in found if each.exact]
    averages = tuple("/".join(filter(None, (*each.way, each.prefix))) for each in equals[1:] if each.average)
    rivals = [each for each in equals[1:] if not each.average and _usual(each) == _usual(best)]
    if not best.average and any(not _same(each, best) for each in rivals):
        names = [repr("/".join((*each.way, each.prefix)).strip("/.")) for each in [best, *rivals]]
        raise UserError(f"{saved.file} holds several networks that fit: {', '.join(names)}. Save one in its own file.")
    return best, averages


def fill(network: nn.Module, saved: Saved, of: str) -> tuple[str, ...]:
    """Put a file's weights into a network; returns notes on what was left out on the way.

    Raises `UserError` with the first of the names that are missing, too many or of another shape.
    """
    best, averages = match(network, saved)
    state = network.state_dict()
    counts = {name: value for name, value in state.items() if name.endswith("num_batches_tracked")}
    if best.exact:
        there = {_named(name): value for name, value in saved.state_dicts[_keys(best)].items()}
        counts = {name: there.get(_theirs(best, name), value) for name, value in counts.items()}
        network.load_state_dict({**counts, **best.tensors})
    elif not _loads_by_itself(network, saved, best):
        raise UserError(f"{saved.file} does not hold weights for {of}: {misfit(best, len(state) - len(counts))}")
    return tuple(_notes(saved, best, averages))


def misfit(found: Match, takes: int) -> str:
    """What does not fit, in one short paragraph. takes: tensors that the network takes."""
    if found.heads:
        theirs, ours = found.heads
        return f"its head is for {theirs} classes ({next(iter(found.shapes))}), the network's for {ours}."
    told = [f"{len(found.tensors)} of the {takes} tensors that it takes fit"]
    if found.shapes:
        name, (shape, wanted) = next(iter(found.shapes.items()))
        told.append(f"{len(found.shapes)} have another shape ({name}: {shape}, not {wanted})")
    if found.missing:
        told.append(f"{len(found.missing)} are missing ({_some(found.missing)})")
    if found.unexpected:
        told.append(f"{len(found.unexpected)} are too many ({_some(found.unexpected)})")
    hint = ""
    if found.missing and found.unexpected:
        first = found.missing[0]
        hint = f" Most like {first} is its {closest(first, found.unexpected, 1)[0]}."
    return "; ".join(told) + "." + hint


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")


def _named(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in _RUN) if "_" in name else name


def _theirs(found: Match, name: str) -> str:
    """The file's name for what the network calls `name`."""
    return found.prefix + _named(name).removeprefix(found.put)


def _keys(found: Match) -> tuple[str, ...]:
    """The keys that lead to a match's state dict."""
    return tuple(part for part in found.way if part not in _RUN)


def _state_dicts(content: Any, way: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], dict[str, Tensor]]]:
    if isinstance(content, (list, tuple)):
        content = {f"[{number}]": part for number, part in enumerate(content[:16])}
    if not isinstance(content, Mapping) or len(way) > 4:
        return
    tensors = {name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, Tensor)}
    if tensors:
        yield way, tensors
    for key, value in content.items():
        if isinstance(key, str) and "optim" not in key.lower() and not isinstance(value, Tensor):
            yield from _state_dicts(value, (*way, key))


def _matches(
    network: nn.Module, own: Mapping[str, str], way: tuple[str, ...], tensors: Mapping[str, Tensor]
) -> Iterator[Match]:
    """A match for each prefix that any of the network's names stands behind, with and without the network's own."""
    theirs = {_named(name): value for name, value in tensors.items() if not name.endswith("num_batches_tracked")}
    run = tuple(part for part in _RUN if any(part in name for name in tensors))
    state = network.state_dict()
    for put in _common_prefixes(own):
        ours = {name[len(put) :]: own[name] for name in own}
        votes = Counter(prefix for name in theirs for prefix in _prefixes(name, ours))
        for prefix, _ in votes.most_common(4) or [("", 0)]:
            inside = {name[len(prefix) :]: value for name, value in theirs.items() if name.startswith(prefix)}
            both = [name for name in ours if name in inside]
            same = [name for name in both if inside[name].shape == state[ours[name]].shape]
            yield Match(
                {ours[name]: inside[name] for name in same},
                tuple(name for name in ours if name not in inside),
                tuple(name for name in inside if name not in ours),
                {
                    name: (tuple(inside[name].shape), tuple(state[ours[name]].shape))
                    for name in both
                    if inside[name].shape != state[ours[name]].shape
                },
                (*way, *run),
                prefix,
                put,
                tuple(name for name in theirs if not name.startswith(prefix)),
            )


def _common_prefixes(own: Mapping[str, str]) -> list[str]:
    """ "", and each run of parts that all of the network's names begin with."""
    found, parts = [""], [name.split(".")[:-2] for name in own]
    for depth in range(1, min(map(len, parts), default=0) + 1):
        begins = {".".join(part[:depth]) + "." for part in parts}
        if len(begins) > 1:
            break
        found += begins
    return found


def _prefixes(name: str, ours: Mapping[str, str]) -> Iterator[str]:
    """What stands before the network's name in a file's name: "" for the very name."""
    start = 0
    while True:
        if name[start:] in ours:
            yield name[:start]
        start = name.find(".", start) + 1
        if not start:
            return


def _usual(found: Match) -> int:
    """The place of a match's outermost key or prefix among the usual ones, the last for any other."""
    parts = [part for part in (*found.way, *found.prefix.split(".")) if part not in _RUN and part]
    named = [_USUAL.index(part) if part in _USUAL else len(_USUAL) for part in parts]
    return max(named, default=0)


def _same(one: Match, other: Match) -> bool:
    return all(torch.equal(value, other.tensors[name]) for name, value in one.tensors.items())


def _loads_by_itself(network: nn.Module, saved: Saved, found: Match) -> bool:
    """Whether the network reads names that are not its own, as one with weight_norm reads those of before torch 2."""
    if not any(module._load_state_dict_pre_hooks for module in network.modules()):
        return False
    inside = {
        found.put + name.removeprefix(found.prefix): value
        for name, value in saved.state_dicts[_keys(found)].items()
        if name.startswith(found.prefix)
    }
    try:
        network.load_state_dict(inside)
    except (RuntimeError, KeyError, ValueError):
        return False
    return True


def _notes(saved: Saved, found: Match, averages: tuple[str, ...]) -> Iterator[str]:
    told = [f"under {'/'.join(_keys(found))!r}"] if _keys(found) else []
    told += [f"saved from {'torch.compile' if part == '_orig_mod' else 'a network run by FSDP'}"
             for part in found.way if part in _RUN]  # fmt: skip
    if found.prefix:
        by = " of DataParallel" if found.prefix.startswith("module.") else ""
        told.append(f"the prefix {found.prefix!r}{by} left out of their names")
    if found.put:
        told.append(f"the network's own {found.put!r} put before their names")
    if found.outside:
        told.append(f"other tensors left out ({len(found.outside)}, such as {found.outside[0]!r})")
    if told:
        yield f"weights in {saved.file.name}: {', '.join(told)}."
    if found.average:
        where = "/".join(filter(None, (*found.way, found.prefix))).rstrip(".")
        yield f"{saved.file.name} holds nothing but an average over training ({where}): it is used."
    elif averages:
        yield f"{saved.file.name} also holds an average over training ({averages[0].rstrip('.')}), which is not used."
    if unset := [name for name, value in found.tensors.items() if value.is_floating_point() and value.isnan().any()]:
        yield f"{len(unset)} of the tensors in {saved.file.name} are not numbers (NaN), such as {unset[0]!r}."
