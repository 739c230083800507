"""Profiles as files: shipped ones by name or a lab's own, a base's numbers below a profile's own."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from labctl.devices import ConfigError

SECTIONS = (
    "name",
    "dated",
    "base",
    "values",
    "sources",
    "unit",
    "unit_sources",
    "truth",
    "truth_source",
    "terms",
)
AnyProfile = TypeVar("AnyProfile", bound=BaseModel)


@dataclass(frozen=True)
class ProfileFolder(Generic[AnyProfile]):
    """The shipped profiles of one kind of machine: their folder beside this module and their model.

    default_base: the shipped profile that a file without a base is written against.
    """

    folder: str
    model: type[AnyProfile]
    default_base: str

    def names(self) -> list[str]:
        """Names of the shipped profiles."""
        files = resources.files(__package__) / self.folder
        return sorted(f.name.removesuffix(".toml") for f in files.iterdir() if f.name.endswith(".toml"))

    def document(self, name: str | Path) -> dict[str, Any]:
        """The whole TOML of a shipped profile or of a profile file, sources included.

        Values and sources that it leaves out are those of the shipped profile that it names as its `base`.
        Raises ConfigError naming file and key.
        """
        text, where = self._text(str(name))
        try:
            document = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"{where}: not TOML: {error}") from None
        unknown = sorted(set(document) - set(SECTIONS))
        if unknown:
            raise ConfigError(f"{where}: key {unknown[0]!r} is not known; allowed: {', '.join(SECTIONS)}")
        base = document.get("base")
        if base is None:
            return document
        if base not in self.names():
            raise ConfigError(f"{where}: base = {base!r}; allowed: {', '.join(self.names())}")
        below = self.document(base)
        merged = {
            key: {**below.get(key, {}), **document.get(key, {})}
            for key in ("values", "sources", "unit", "unit_sources")
        }
        return {**document, **merged}

    def values(self, path: Path) -> tuple[str, dict[str, Any]]:
        """A profile file as a shipped profile's name and the overrides that make it that file's.

        Raises ConfigError naming the file and the field where it does not make a profile.
        """
        self.load(path)
        document = self.document(path)
        return document.get("base", self.default_base), {**document["values"], **_tables(document)}

    def load(self, name: str | Path, overrides: dict[str, Any] | None = None) -> AnyProfile:
        """A shipped profile by name, or a profile file, with single values replaced.

        Raises ConfigError naming the field and the value.
        """
        document = self.document(name)
        values = {**document["values"], **_tables(document), **(overrides or {})}
        try:
            return self.model(**values)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"])
            raise ConfigError(f"profile {name}: {field} = {first['input']!r}: {first['msg']}") from None

    def _text(self, name: str) -> tuple[str, str]:
        names = self.names()
        if name in names:
            return (resources.files(__package__) / self.folder / f"{name}.toml").read_text("utf-8"), (
                f"profile {name}"
            )
        path = Path(name)
        if path.suffix != ".toml" and not path.is_file():
            raise ConfigError(
                f"profile {name!r} is not known; allowed: {', '.join(names)}, or a profile file"
            )
        try:
            return path.read_text("utf-8"), str(path)
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from None
        except UnicodeDecodeError:
            raise ConfigError(f"{path}: not text in UTF-8") from None


def _tables(document: dict[str, Any]) -> dict[str, Any]:
    return {key: document[key] for key in ("unit", "truth", "terms") if document.get(key)}
