"""`featviz.draw.references` by its old name, which goes with the next version."""

from __future__ import annotations

import warnings

from .draw.references import *  # noqa: F403

warnings.warn("featviz.references is featviz.draw.references now.", DeprecationWarning, stacklevel=2)
