"""One command's output folder: claimed with its settings, filled through a draft, finished by its manifest."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from .keep import Arrays
from .lock import Lock

# What is said where parts of an identity differ that are digests.
_OF_DIGESTS = {
    "images": "the images are not the same: other names, labels or sizes",
    "images last changed": "images were changed since",
    "weights": "the network's weights are others",
    "labels": "the classes have other names",
    "other_weights": "the second network's weights are others",
    "sample_of": "the activations are of another atlas",
}
# What stands in the place of a draft's identity while a folder is emptied.
_CLEARING = {"clearing": True}


@dataclass(frozen=True)
class OutputFolder:
    """A folder that is unfinished until `manifest.json` is in it.

    Intermediate results live in `draft/` until then, so that the same command, started again, goes on where the first
    was stopped. Every file appears whole or not at all.
    """

    path: Path
    identity: Mapping[str, Any]
    lock: Lock | None = None
    about: Callable[[], Mapping[str, Any]] | None = None

    @classmethod
    def claim(
        cls,
        path: str | Path,
        identity: Mapping[str, Any],
        *,
        overwrite: bool = False,
        unchanged: Mapping[str, Any] | None = None,
    ) -> OutputFolder:
        """Take `path` for the work that `identity` describes (settings and fingerprints, as JSON holds them).

        A new or empty folder is taken; one that this very work left, finished or not, is taken up again. Anything else
        is refused with a `UserError` and stays untouched, unless `overwrite` and the folder is one of ours; what is
        finished is then made again. unchanged: what an unfinished folder has to agree in besides, such as when images
        were changed last. A folder in which another process works is refused.
        """
        path = Path(path)
        identity = json.loads(json.dumps(identity))
        begun = {**identity, **json.loads(json.dumps(unchanged or {}))}
        lock = Lock(path / "draft" / "lock")
        folder = cls(path, identity, lock)
        if path.exists() and not path.is_dir():
            raise UserError(f"--out {str(path)!r} is a file; give a folder.")
        found = folder._found()
        # A draft alone: killed before it could say whose it is.
        others = path.is_dir() and found is None and any(entry.name != "draft" for entry in path.iterdir())
        if others:
            raise UserError(f"--out {str(path)!r} holds other files; give a new or empty folder.")
        wanted = identity if folder.finished else begun
        # What this very work has left unfinished is never thrown away: the command line stays the same when it is
        # started again.
        fresh = found == _CLEARING or (overwrite and (folder.finished or found != begun))
        if found is not None and found != wanted and not fresh:
            raise UserError(_refusal(path, folder.finished, found, wanted))
        try:
            if folder.finished and not fresh:
                shutil.rmtree(folder.draft, ignore_errors=True)  # killed between the manifest and this
                return folder
            folder.draft.mkdir(parents=True, exist_ok=True)
            folder._take_lock()
            if folder.finished and not fresh:  # by another run, while this one was looking
                folder.let_go()
                return cls.claim(path, identity, unchanged=unchanged)
            if found is None or fresh:
                folder._clear()
            folder.write_json("draft/identity.json", begun)
        except OSError as error:
            lock.release()
            raise UserError(f"--out {str(path)!r} cannot be written: {error.strerror}.") from error
        return folder

    @classmethod
    def reopen(cls, path: str | Path) -> OutputFolder:
        """Take a finished folder again, to add to what is in it; `let_go` ends that.

        Raises `UserError` for a folder that is not finished, and for one in which another process works.
        """
        path = Path(path)
        folder = cls(path, {}, Lock(path / "draft" / "lock"))
        if not folder.finished:
            raise UserError(f"{str(path)!r} is no finished folder (no manifest.json).")
        try:
            folder.draft.mkdir(exist_ok=True)
            folder._take_lock()
        except OSError as error:
            raise UserError(f"{str(path)!r} cannot be written: {error.strerror}.") from error
        return cls(path, folder.manifest().get("identity", {}), folder.lock)

    @property
    def draft(self) -> Path:
        return self.path / "draft"

    @property
    def finished(self) -> bool:
        return (self.path / "manifest.json").is_file()

    def has(self, name: str) -> bool:
        """Whether the named intermediate result is there."""
        return zipfile.is_zipfile(self.draft / f"{name}.npz")

    def room(self, name: str) -> Path | None:
        """An empty folder in the draft, for files that are mapped into memory rather than read."""
        room = self.draft / f"{name}.room"
        shutil.rmtree(room, ignore_errors=True)
        room.mkdir(parents=True)
        return room

    def arrays(self, name: str, compute: Callable[[], Arrays]) -> Arrays:
        """The named intermediate result, from the draft where an earlier run left it, else computed and kept."""
        if self.has(name):
            return _load_arrays(self.draft / f"{name}.npz")
        made = compute()
        self.write(f"draft/{name}.npz", lambda path: _save_arrays(path, made))
        return made

    def latest(self, name: str) -> tuple[int, Arrays] | None:
        """How far the named step-by-step work had come, and what it had made by then; None before its first step."""
        files = sorted(file for file in self.draft.glob(f"{name}-*.npz") if zipfile.is_zipfile(file))
        return (int(files[-1].stem.removeprefix(f"{name}-")), _load_arrays(files[-1])) if files else None

    def advance(self, name: str, step: int, arrays: Arrays) -> None:
        """Keep what the named work has made by `step`, in place of what it had made by an earlier one."""
        kept = self.write(f"draft/{name}-{step:012d}.npz", lambda path: _save_arrays(path, arrays))
        for file in self.draft.glob(f"{name}-*.npz"):
            if file != kept:
                file.unlink()

    def write(self, name: str, fill: Callable[[Path], Any]) -> Path:
        """Have `fill(path)` write a file, then give it its name: a reader never sees half of it."""
        target = self.path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        # In the draft, what a killed run left half-written goes with it.
        self.draft.mkdir(exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=self.draft, prefix=".", suffix=target.suffix)
        os.close(descriptor)
        try:
            fill(Path(temporary))
            Path(temporary).chmod(0o644)
            _reach_the_disk(Path(temporary))
            Path(temporary).replace(target)
        finally:
            Path(temporary).unlink(missing_ok=True)
        return target

    def write_text(self, name: str, text: str) -> Path:
        """Write a file of UTF-8 text."""
        return self.write(name, lambda path: path.write_text(text, encoding="utf-8"))

    def write_json(self, name: str, content: Any, *, indent: int | None = 1) -> Path:
        """Write UTF-8 JSON; NaN and infinity are not JSON and raise `ValueError`."""
        text = json.dumps(content, indent=indent, ensure_ascii=False, allow_nan=False)
        return self.write_text(name, text + "\n")

    def manifest(self) -> dict[str, Any]:
        """The manifest of a finished folder."""
        found: dict[str, Any] = json.loads((self.path / "manifest.json").read_text(encoding="utf-8"))
        return found

    def finish(self, manifest: Mapping[str, Any]) -> None:
        """Write the manifest, once the folder's other files have reached the disk, and drop the draft."""
        for file in self.path.rglob("*"):
            if self.draft not in file.parents and file.is_file():
                _reach_the_disk(file)
        more = {} if self.about is None else self.about()
        self.write_json("manifest.json", {**manifest, **more, "identity": self.identity})
        self.let_go()

    def let_go(self) -> None:
        """Drop the draft, then the lock: a run that was waiting for it finds nothing left to do."""
        shutil.rmtree(self.draft, ignore_errors=True)
        if self.lock is not None:
            self.lock.release()

    def _take_lock(self) -> None:
        if self.lock is not None and not self.lock.acquire():
            raise UserError(
                f"--out {str(self.path)!r} is being written by another run (process {self.lock.holder()}). Wait for "
                "it, or give another folder."
            )

    def _found(self) -> Any:
        """The identity of the work that left this folder, None if there was none."""
        for name in ("draft/identity.json", "manifest.json"):
            file = self.path / name
            if file.is_file():
                try:
                    content = json.loads(file.read_text(encoding="utf-8"))
                    if name == "manifest.json" or content == _CLEARING or not self.finished:
                        return content["identity"] if name == "manifest.json" else content
                except (ValueError, KeyError, TypeError):
                    return {}
        return None

    def _clear(self) -> None:
        """Remove everything but the lock, which stays held; a run killed meanwhile leaves word of it."""
        marker = self.write_json("draft/identity.json", _CLEARING)
        kept = (marker, self.draft) if self.lock is None else (marker, self.draft, self.lock.file)
        for entry in [*self.path.iterdir(), *self.draft.iterdir()]:
            if entry not in kept:
                shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()


def safe_name(name: str) -> str:
    """A name as part of a file's name: different names stay different.

    Spaces become underscores; of a name with other signs that a file system may refuse, a digest follows.
    """
    changed = re.sub(r"[^\w.-]", "_", name)
    plain = changed == (name if "_" in name else name.replace(" ", "_"))
    return changed if plain else f"{changed}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"


def _load_arrays(file: Path) -> Arrays:
    with np.load(file, allow_pickle=False) as stored:
        return {key: stored[key] for key in stored.files}


def _reach_the_disk(path: Path) -> None:
    """Else a power cut may leave a name without its data."""
    with path.open("rb" if os.name == "posix" else "rb+") as stream:
        os.fsync(stream.fileno())


def _save_arrays(path: Path, arrays: Arrays) -> None:
    with path.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **arrays)


def _refusal(path: Path, finished: bool, found: Any, identity: Mapping[str, Any]) -> str:
    state = f"--out {str(path)!r} is {'a finished' if finished else 'an unfinished'} folder"
    advice = "Give another folder, or --overwrite to replace it."
    was, now = _flat(found), _flat(identity)
    if not was:
        return f"{state} whose settings cannot be read. {advice}"
    if was.get("command") != now.get("command"):
        return f"{state} of `{was.get('command')}`, not of `{now.get('command')}`. {advice}"
    differing = [key for key in dict.fromkeys([*was, *now]) if was.get(key) != now.get(key)]
    told = [_difference(key, was.get(key), now.get(key)) for key in differing[:3]]
    return f"{state} made with other settings ({'; '.join(told)}). {advice}"


def _difference(key: str, was: Any, now: Any) -> str:
    # What a digest was and is says nothing to anyone.
    known = None if was is None or now is None else _OF_DIGESTS.get(key)
    if isinstance(was, Mapping) or isinstance(now, Mapping):
        known = _OF_DIGESTS.get(key, f"{key} is of other work")
    return known or f"{key} was {was!r}, is {now!r}"


def _flat(nested: Any) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in nested.items() if isinstance(nested, Mapping) else ():
        # The identity of other work, on which this one builds, stays whole: its settings are not these.
        flat.update(_flat(value) if isinstance(value, Mapping) and "command" not in value else {key: value})
    return flat
