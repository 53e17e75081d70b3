"""Command lines to configurations."""

import draccus
from draccus.utils import ParsingError

from posa_vla.errors import PosaError


def parse[Config](config_class: type[Config], words: list[str], file: str | None = None) -> Config:
    """draccus.parse, with what an option's own check says (a PosaError) instead of draccus' account of it."""
    try:
        return draccus.parse(config_class, file, args=words)
    except ParsingError as error:
        if isinstance(error.__cause__, PosaError):
            raise error.__cause__ from None
        raise


def names(text: str | None) -> tuple[str, ...] | None:
    """``a,b`` -> (a, b); None, which stands for all of them, where nothing or ``all`` is given."""
    return None if text is None or text == "all" else listed(text)


def listed(text: str) -> tuple[str, ...]:
    """``a,b`` or ``[a, 'b']`` -> (a, b), without spaces around names and without empty names."""
    return tuple(part.strip().strip("'\"") for part in text.strip("[]() ").split(",") if part.strip())
