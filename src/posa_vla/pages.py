"""What the pages of calibration, inspection and evaluation share: their templates, and pictures inside the page."""

import base64
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import jinja2
import numpy as np

from posa_vla import calibration, evaluation, inspection

TEMPLATES = [Path(str(room.__file__)).parent for room in (calibration, inspection, evaluation)]
"""The last holds the style that all of the project's pages share."""


def render(template: str, filters: Mapping[str, Callable[..., str]] | None = None, **content: Any) -> str:
    """A page's text.

    Args:
        template: its file among `TEMPLATES`.
        filters: functions by the names that the template pipes values through.
        **content: what it shows; a name that the template uses and that is missing raises.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(filters or {})
    return environment.get_template(template).render(**content)


def picture_uri(image: np.ndarray, quality: int = 85) -> str:
    """uint8 (H, W, 3) RGB as a JPEG in a data URI."""
    done, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise ValueError(f"cannot encode an image {image.shape} {image.dtype}")
    return f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"
