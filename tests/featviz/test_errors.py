from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from featviz.errors import closest, unknown


def test_the_error_names_what_was_given_and_the_three_closest() -> None:
    text = str(unknown("layer", "block.5", ["stem", "blocks.5", "blocks.4", "blocks.3", "head"]))
    assert "'block.5'" in text
    assert text.index("'blocks.5'") < text.index("'blocks.3'") < text.index("'blocks.4'")
    assert "head" not in text


def test_case_does_not_count() -> None:
    assert closest("TABBY", ["tiger", "tabby", "table"])[0] == "tabby"


@given(st.text(max_size=12), st.lists(st.text(max_size=12), max_size=8))
def test_closest_are_choices_without_repetition(name: str, choices: list[str]) -> None:
    found = closest(name, choices)
    assert len(found) == min(3, len(set(choices))) == len(set(found))
    assert set(found) <= set(choices)
