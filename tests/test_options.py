"""What command lines mean, where several commands read the same kind of option."""

import pytest

from posa_vla.options import listed, names


@pytest.mark.parametrize("text", ["red,blue", " red , blue ", "red,,blue,", "[red, 'blue']", '("red", blue)'])
def test_names_are_listed_with_spaces_brackets_and_quotes_or_without(text):
    assert listed(text) == names(text) == ("red", "blue")


def test_nothing_and_all_choose_all():
    assert names(None) is None
    assert names("all") is None
    assert listed("") == ()
