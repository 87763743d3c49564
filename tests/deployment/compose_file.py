"""docker-compose.yaml as Compose would read it, and Dockerfile as Docker would: no engine is needed for either."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

PROJECT = Path(__file__).resolve().parents[2]
COMPOSE_FILE = PROJECT / "docker-compose.yaml"
VARIABLES_FILE = PROJECT / "deploy" / "variables.env.example"
DOCKERFILE = PROJECT / "Dockerfile"

_VARIABLE = re.compile(r"\$\$|\$\{(?P<name>\w+)(?P<operator>:?[-?])?(?P<word>[^{}]*)\}")
OWN_IMAGE = "${DEPLOY_IMAGE:-copywatch:"


class MissingVariable(Exception):
    """A variable that has no default is not set."""


@dataclass(frozen=True)
class Use:
    """One place in the file where a variable is used."""

    name: str
    required: bool
    word: str
    """The default, or what is said when the variable is missing."""


def uses(text: str) -> Iterator[Use]:
    """Every use of a variable."""
    for found in _VARIABLE.finditer(text):
        if found["name"]:
            yield Use(found["name"], (found["operator"] or "").endswith("?"), found["word"])


def _interpolated_text(text: str, variables: Mapping[str, str]) -> str:
    def value(found: re.Match[str]) -> str:
        if found["name"] is None:
            return "$"
        operator, given = found["operator"] or "", variables.get(found["name"])
        if given is not None and (given or not operator.startswith(":")):
            return given
        if operator.endswith("?"):
            raise MissingVariable(found["word"])
        return found["word"]

    return _VARIABLE.sub(value, text)


def interpolated(value: Any, variables: Mapping[str, str]) -> Any:
    """A part of the file with its variables filled in.

    Raises:
        MissingVariable: one without a default is not set; the message is the file's own.
    """
    if isinstance(value, str):
        return _interpolated_text(value, variables)
    if isinstance(value, Mapping):
        return {key: interpolated(one, variables) for key, one in value.items()}
    if isinstance(value, list):
        return [interpolated(one, variables) for one in value]
    return value


def raw() -> dict[str, Any]:
    """The file with its anchors resolved and its variables as they stand."""
    return dict(YAML(typ="safe").load(COMPOSE_FILE))


def load(variables: Mapping[str, str]) -> dict[str, Any]:
    """The file as Compose would run it."""
    return dict(interpolated(raw(), variables))


def documented_variables() -> dict[str, str]:
    """Names and defaults in deploy/variables.env.example."""
    lines = VARIABLES_FILE.read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def environment_of(service: Mapping[str, Any]) -> dict[str, str]:
    """A service's environment."""
    return {name: str(value) for name, value in (service.get("environment") or {}).items()}


def one_shot(service: Mapping[str, Any]) -> bool:
    """Does it do its work once and end?"""
    return service.get("restart") == "no"


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions in order, each in one line."""
    text = re.sub(r"^\s*#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE)
    joined = re.sub(r"\\\n\s*", " ", text)
    pairs = (line.split(None, 1) for line in joined.splitlines() if line.strip())
    return [(pair[0], pair[1]) for pair in pairs]


def stages() -> dict[str, list[tuple[str, str]]]:
    """The Dockerfile's stages by name, the last one as `final`."""
    found: dict[str, list[tuple[str, str]]] = {}
    name = ""
    for instruction, rest in instructions():
        if instruction == "FROM":
            name = rest.split(" AS ")[1] if " AS " in rest else "final"
            found[name] = []
        found[name].append((instruction, rest))
    return found


def image_environment() -> dict[str, str]:
    """ENV of the image that is run."""
    found = stages()
    lines = [rest for stage in ("base", "final") for instruction, rest in found[stage] if instruction == "ENV"]
    return dict(pair.split("=", 1) for line in lines for pair in line.split())
