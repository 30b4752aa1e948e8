"""One pass over images, and what gathers statistics in it."""

from featviz.moved import of_room

from .scan import scan as scan  # not the file of that name: so it was before there were rooms

__getattr__ = of_room(__name__)
