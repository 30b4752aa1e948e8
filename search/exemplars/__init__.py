"""Each unit's strongest images: found, kept, shown."""

from featviz.moved import of_room

from .exemplars import exemplars as exemplars  # not the file of that name: so it was before there were rooms

__getattr__ = of_room(__name__)
