"""Everything known of one unit on one card."""

from featviz.moved import of_room

__getattr__ = of_room(__name__)
