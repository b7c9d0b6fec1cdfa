"""Pages from templates, and the small images in them."""

import base64
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

SIDE = 128  # of a small image, pixels

Cells = list[list[str]]


@dataclass(frozen=True)
class Picture:
    """A small image: its URL, the name of its class and its file, what else stands below it."""

    source: str
    class_name: str
    file: str
    note: str = ""


def render(template: str, **values: Any) -> str:
    """A template of ``templates/`` with values; all text is escaped."""
    environment = Environment(
        loader=PackageLoader("pipeline.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)


def data_url(jpeg: bytes) -> str:
    """The URL that holds a JPEG file."""
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"


def small(image: np.ndarray) -> str:
    """The URL of an image (uint8 [height, width, 3]) whose longer side is made ``SIDE`` pixels."""
    scale = SIDE / max(image.shape[:2])
    width = max(1, round(image.shape[1] * scale))
    height = max(1, round(image.shape[0] * scale))
    file = io.BytesIO()
    resized = Image.fromarray(image).resize((width, height))
    resized.save(file, "JPEG", quality=75, optimize=True)
    return data_url(file.getvalue())
