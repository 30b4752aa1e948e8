"""Words for units with evidence: vocabularies, hierarchies, names."""

from featviz.moved import of_room

__getattr__ = of_room(__name__)
