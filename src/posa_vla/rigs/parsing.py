"""From what a YAML file holds to a dataclass and back: unknown and missing fields are errors with their place."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from posa_vla.errors import PosaError, unknown_name


def mapping_of(kind: type, content: Any, where: str) -> dict[str, Any]:
    """A copy of the mapping, once it has all of the dataclass' required fields and no other."""
    if not isinstance(content, dict):
        raise PosaError(f"{where}: expected a mapping, got {type(content).__name__}")
    known = {item.name: item for item in fields(kind) if item.metadata.get("in_file", True)}
    for name in content:
        if name not in known:
            raise unknown_name(f"field of {where}:", str(name), known)
    for name, item in known.items():
        if name not in content and item.default is item.default_factory:  # both MISSING: required
            raise PosaError(f"{where}: the field {name!r} is missing")
    return dict(content)


def build(kind: type, content: Any, where: str, folder: Path | None = None) -> Any:
    """An instance of the dataclass ``kind``; lists become tuples, matrices arrays; None stands for the default."""
    values = {name: _value(name, value) for name, value in mapping_of(kind, content, where).items()}
    values = {name: value for name, value in values.items() if value is not None}
    if any(item.name == "folder" for item in fields(kind)):
        values["folder"] = folder
    try:
        return kind(**values)
    except PosaError as error:
        raise PosaError(f"{where}: {error}") from error
    except TypeError as error:
        raise PosaError(f"{where}: a field has the wrong type ({error})") from error


def list_of(kind: type, content: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(content, list):
        raise PosaError(f"{where}: expected a list, got {type(content).__name__}")
    return tuple(build(kind, item, f"{where}[{position}]") for position, item in enumerate(content))


def to_plain(value: Any) -> Any:
    """A dataclass as YAML and JSON hold it: numbers, strings, lists and dicts; NaN matrices are None."""
    if hasattr(value, "__dataclass_fields__"):
        hidden = {item.name for item in fields(value) if not item.metadata.get("in_file", True)}
        return {item.name: to_plain(getattr(value, item.name)) for item in fields(value) if item.name not in hidden}
    if isinstance(value, dict):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return None if np.isnan(value).all() else value.tolist()
    return value


def _value(name: str, value: Any) -> Any:
    if name == "cam_from_mount":
        if isinstance(value, dict):
            return {camera: np.array(matrix, dtype=np.float64) for camera, matrix in value.items()}
        return None if value is None else np.array(value, dtype=np.float64)
    return _tuples(value)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
