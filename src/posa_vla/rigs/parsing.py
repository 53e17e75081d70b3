"""From what a YAML file holds to a dataclass and back: unknown and missing fields are errors with their place."""

from dataclasses import fields
from numbers import Integral, Real
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

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
        is_required = item.default is item.default_factory  # both MISSING
        if is_required and content.get(name) is None:
            raise PosaError(f"{where}: the field {name!r} is missing")
    return dict(content)


def build(kind: type, content: Any, where: str, folder: Path | None = None) -> Any:
    """An instance of the dataclass ``kind``; lists become tuples, matrices arrays; None stands for the default."""
    values = {name: _value(name, value, where) for name, value in mapping_of(kind, content, where).items()}
    values = {name: value for name, value in values.items() if value is not None}
    hints = get_type_hints(kind)
    for name, value in values.items():
        if not _fits(value, hints[name]):
            raise PosaError(f"{where}.{name}: expected {_described(hints[name])}, got {content[name]!r}")
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


def _value(name: str, value: Any, where: str) -> Any:
    if name == "cam_from_mount":
        if isinstance(value, dict):
            return {camera: _matrix(matrix, f"{where}.{name}.{camera}") for camera, matrix in value.items()}
        return None if value is None else _matrix(value, f"{where}.{name}")
    return _tuples(value)


def _matrix(value: Any, where: str) -> np.ndarray:
    try:
        return np.array(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise PosaError(f"{where}: expected four rows of four numbers, got {value!r}") from None


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value is of a field's annotated type; numbers must be finite, and true is no number."""
    args = get_args(hint)
    match get_origin(hint):
        case origin if origin is Union or origin is UnionType:
            return any(_fits(value, item) for item in args)
        case origin if origin is Literal:  # the dataclass itself lists the valid words
            return isinstance(value, str)
        case origin if origin is tuple:
            items = [args[0]] * len(value) if args[-1] is Ellipsis and isinstance(value, tuple) else list(args)
            is_whole = isinstance(value, tuple) and len(items) == len(value)
            return is_whole and all(_fits(item, kind) for item, kind in zip(value, items, strict=True))
        case origin if origin is dict:
            return isinstance(value, dict) and all(_fits(k, args[0]) and _fits(v, args[1]) for k, v in value.items())
    if hint in (int, float):
        number = Integral if hint is int else Real
        return isinstance(value, number) and not isinstance(value, bool) and bool(np.isfinite(float(value)))
    return isinstance(value, hint)


def _described(hint: Any) -> str:
    args = get_args(hint)
    origin = get_origin(hint)
    if origin is Union or origin is UnionType:
        return _described(args[0])
    if origin is tuple:
        return "a list, each item " + _described(args[0]) if args[-1] is Ellipsis else f"a list of {len(args)} numbers"
    if origin is dict:
        return "a mapping from cameras to 4x4 matrices"
    words = {
        int: "a whole number",
        float: "a finite number (without quotes; with a dot and a sign before an exponent: 1.0e-3)",
        bool: "true or false (without quotes)",
        np.ndarray: "a 4x4 matrix",
    }
    return words.get(hint, "text")


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
