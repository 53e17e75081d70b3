"""What the pages of calibration and inspection share: the template loader and pictures inside the page."""

import base64
from pathlib import Path
from typing import Any

import cv2
import jinja2
import numpy as np

from posa_vla import evaluation, inspection

TEMPLATES = (Path(__file__).parent, Path(inspection.__file__).parent, Path(evaluation.__file__).parent)
"""The last holds the style that all of the project's pages share."""


def render(template: str, **content: Any) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template(template).render(**content)


def picture_uri(image: np.ndarray, quality: int = 85) -> str:
    """uint8 (H, W, 3) RGB as a JPEG in a data URI."""
    done, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise ValueError(f"cannot encode an image {image.shape} {image.dtype}")
    return f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"
