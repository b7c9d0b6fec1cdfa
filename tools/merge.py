"""Changes of params.yaml: laid over each other, and over a person's edits."""

from collections.abc import Collection
from io import StringIO
from typing import Any

import yaml
from ruamel.yaml import YAML, YAMLError

_NONE = object()  # stands for a key that is not there


def merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """``base`` with ``changes`` laid over it, key by key; null removes a key.

    That is JSON Merge Patch (RFC 7386).
    """
    merged = layer(base, changes)
    for key in base.keys() & changes.keys():
        if isinstance(base[key], dict) and isinstance(changes[key], dict):
            merged[key] = merge(base[key], changes[key])
    return {key: value for key, value in merged.items() if value is not None or key not in changes}


def layer(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Changes that do what ``first`` and then ``second`` do."""
    both = {
        key: layer(first[key], second[key])
        for key in first.keys() & second.keys()
        if isinstance(first[key], dict) and isinstance(second[key], dict)
    }
    return first | second | both


def three_way(base: Any, theirs: Any, new: Any) -> Any:
    """``new``, with a person's values where ``theirs`` differ from ``base``, key by key."""
    if theirs == base:
        return new
    if not (isinstance(theirs, dict) and isinstance(new, dict)):
        return theirs
    if not isinstance(base, dict):
        base = {}
    merged = {}
    for key in [*theirs, *(key for key in new if key not in theirs)]:
        value = three_way(base.get(key, _NONE), theirs.get(key, _NONE), new.get(key, _NONE))
        if value is not _NONE:
            merged[key] = value
    return merged


def values_at(params: dict[str, Any], keys: Collection[str]) -> dict[str, Any]:
    """The values of ``params`` at keys such as images.path, nested as there."""
    found: dict[str, Any] = {}
    for key in keys:
        *sections, last = key.split(".")
        value: Any = params
        place = found
        for section in sections:
            value = value[section]
            place = place.setdefault(section, {})
        place[last] = value[last]
    return found


def read_yaml_text(text: str) -> Any:
    """What YAML text holds, read as :func:`pipeline.params.read_yaml` reads a file."""
    return YAML(typ="safe").load(text)


def with_values(text: str, values: dict[str, Any]) -> str:
    """YAML text with other values; where values stay, its comments and its form do."""
    editor = YAML()
    editor.preserve_quotes = True
    editor.width = 1000
    document = editor.load(text)
    _assign(document, values)
    found = StringIO()
    editor.dump(document, found)
    try:
        if read_yaml_text(found.getvalue()) == values:
            return found.getvalue()
    except YAMLError:  # a comment stood where ruamel.yaml cannot keep it
        pass
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def _assign(document: Any, values: dict[str, Any]) -> None:
    """Give a mapping of ruamel.yaml these values."""
    for key in [key for key in document if key not in values]:
        del document[key]
    for key, value in values.items():
        old = document.get(key)
        if value and isinstance(value, dict) and isinstance(old, dict):
            _assign(old, value)
        elif key not in document or old != value:
            document[key] = value
