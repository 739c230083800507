"""What users write (and run files keep): read it, and say in one line what is wrong with it."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from labctl.devices.errors import ConfigError


def nearest(word: str, known: Any) -> str:
    """'; did you mean X?' where something is close, else nothing."""
    close = get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def read_toml(path: Path) -> str:
    """The text of a TOML file, or ConfigError where it cannot be read as text."""
    try:
        return path.read_text("utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not text in UTF-8") from None


def parse_toml(text: str, where: str) -> dict[str, Any]:
    """TOML to a dict, or ConfigError with the place of the mistake."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{where}: not TOML: {error}") from None


def parse_json(text: str, where: str) -> dict[str, Any]:
    """A JSON object to a dict, or ConfigError with the place of the mistake."""
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{where}: not JSON: {error}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{where}: not a JSON object")
    return content


def toml_text(document: Mapping[str, Any]) -> str:
    """A document as TOML: tables and lists of tables as sections, whatever is inside those in one line."""
    lines, sections = [], []
    for key, value in document.items():
        if isinstance(value, Mapping):
            sections += ["", f"[{_key(key)}]", *_lines(value)]
        elif isinstance(value, list | tuple) and value and all(isinstance(v, Mapping) for v in value):
            sections += [line for v in value for line in ("", f"[[{_key(key)}]]", *_lines(v))]
        else:
            lines.append(f"{_key(key)} = {_inline(value)}")
    return "\n".join([*lines, *sections]) + "\n"


def _lines(table: Mapping[str, Any]) -> list[str]:
    return [f"{_key(key)} = {_inline(value)}" for key, value in table.items()]


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key)


def _inline(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(_lines(value)) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_inline(entry) for entry in value) + "]"
    return json.dumps(value, ensure_ascii=False)


def set_dotted(content: dict[str, Any], key: str, value: Any) -> None:
    """content["a"]["b"] = value for the key "a.b"; sections are copied or made.

    Raises ConfigError where "a" is a value.
    """
    *parents, last = key.split(".")
    for parent in parents:
        inner = content.get(parent, {})
        if not isinstance(inner, Mapping):
            raise ConfigError(f"{key}: {parent} is a value, not a section")
        content[parent] = dict(inner)
        content = content[parent]
    content[last] = value


def first_problem(error: ValidationError, where: str, model: type[BaseModel]) -> ConfigError:
    """pydantic's first complaint as one line that names file, field, value and what is allowed."""
    problems = error.errors()
    # A misspelt key makes the right one missing: the spelling is what helps.
    problem = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])
    loc = problem["loc"]
    field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).removeprefix(".")
    if problem["type"] == "extra_forbidden":
        known = _fields_at(model, loc[:-1])
        hint = nearest(str(loc[-1]), known) or f"; allowed: {', '.join(known)}"
        return ConfigError(f"{where}: key {field!r} is not known{hint}")
    if problem["type"] == "missing":
        return ConfigError(f"{where}: {field} is missing")
    message = _allowed(problem["type"], problem.get("ctx", {}), problem["msg"])
    if not field:
        return ConfigError(f"{where}: {message}")
    return ConfigError(f"{where}: {field} = {problem['input']!r}: {message}")


_WANTED = {
    "int": "a whole number",
    "float": "a number",
    "string": "text",
    "tuple": "a list",
    "dict": "a table",
}


def _allowed(kind: str, bounds: dict[str, Any], message: str) -> str:
    """pydantic's words where they are ours already, else what is allowed."""
    match kind:
        case "greater_than_equal":
            return f"allowed: {bounds['ge']:g} or more"
        case "greater_than":
            return f"allowed: more than {bounds['gt']:g}"
        case "less_than_equal":
            return f"allowed: {bounds['le']:g} or less"
        case "less_than":
            return f"allowed: less than {bounds['lt']:g}"
        case "literal_error":
            return f"allowed: {bounds['expected']}"
        case "value_error":
            return message.removeprefix("Value error, ")
    wanted = _WANTED.get(kind.split("_")[0])
    return f"allowed: {wanted}" if wanted else message


def _fields_at(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """Names of the fields at a place inside a model: through tuples and optional parts."""
    for part in loc:
        if isinstance(part, str) and part in model.model_fields:
            inner = _models_in(model.model_fields[part].annotation)
            model = inner[0] if inner else model
    return list(model.model_fields)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for part in get_args(annotation) for found in _models_in(part)]
