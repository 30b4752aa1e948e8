"""Where images come from, and how they are decoded."""

from featviz.moved import of_room

__getattr__ = of_room(__name__)
