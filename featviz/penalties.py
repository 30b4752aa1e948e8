"""`featviz.draw.penalties` by its old name, which goes with the next version."""

from __future__ import annotations

import warnings

from .draw.penalties import *  # noqa: F403

warnings.warn("featviz.penalties is featviz.draw.penalties now.", DeprecationWarning, stacklevel=2)
