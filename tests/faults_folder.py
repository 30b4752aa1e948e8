"""What an output folder holds, to be compared."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path


def contents(folder: Path) -> dict[str, str]:
    """Every file's digest; of the manifest, all but how long it took."""
    found = {}
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        data = file.read_bytes()
        if file.name == "manifest.json":
            manifest = json.loads(data)
            manifest.pop("seconds", None)
            data = json.dumps(manifest).encode()
        found[file.relative_to(folder).as_posix()] = hashlib.sha256(data).hexdigest()
    return found
