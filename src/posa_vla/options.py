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
