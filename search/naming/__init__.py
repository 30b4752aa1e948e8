"""Words for units with evidence: vocabularies, hierarchies, names."""
