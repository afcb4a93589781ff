"""Reading params.yaml, and what is said of a value that is not allowed."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from unroll.core.errors import UnrollError
from unroll.core.settings import SPACES, Config, TaskConfig


def read_config(path: Path) -> Config:
    """Read and check params.yaml.

    Raises:
        UnrollError: the file is missing, is not YAML, or has an unknown key or a value that is not allowed; the
            message gives every such key's path, what was found and what would be accepted.
    """
    try:
        values = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UnrollError(f"{path}: no such file; run this in the folder that holds params.yaml") from None
    except (YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise UnrollError(f"{path}: not readable as YAML: {reason}") from None
    if not isinstance(values, dict):
        raise UnrollError(f"{path}: expected sections such as `seed:` and `data:`, found {type(values).__name__}")
    return parse_config(values, str(path))


def parse_config(values: dict[str, Any], origin: str = "params.yaml") -> Config:
    """Check the mapping that params.yaml holds.

    Raises:
        UnrollError: see read_config.
    """
    names = values.get("tasks")
    task_names = {name for name in names if isinstance(name, str)} if isinstance(names, list) else set()
    fixed = {key for key in Config.model_fields if key != "task"}
    # A section of no listed task is checked all the same.
    sections = {key: value for key, value in values.items() if key not in fixed and _is_task_section(key, value)}
    unlisted = sorted(task_names - sections.keys())
    if unlisted:
        raise UnrollError(
            f"{origin}: tasks: {unlisted[0]!r} has no section of its own in the file; add `{unlisted[0]}:`"
        )
    rest = {key: value for key, value in values.items() if key not in sections}
    try:
        return Config.model_validate({**rest, "task": sections})
    except ValidationError as error:
        raise UnrollError(explain_errors(error.errors(), origin, Config)) from None


def _is_task_section(key: str, value: object) -> bool:
    return isinstance(value, dict) and any(name in value for name in TaskConfig.model_fields) and key != "task"


def explain_errors(errors: Iterable[ErrorDetails], origin: str, root: type[BaseModel]) -> str:
    """Return a line for each value that is not allowed: its file and path, what was found, what would be accepted.

    Args:
        errors: what pydantic found.
        origin: the file.
        root: the section that the whole file is.
    """
    lines = []
    for error in errors:
        places = [str(place) for place in error["loc"] if place not in SPACES]
        path = ".".join(places[1:] if places[:1] == ["task"] else places)
        if error["type"] == "extra_forbidden":
            lines.append(f"{origin}: {path}: unknown key; {_known_keys(error, root)}")
        elif error["type"] == "missing":
            lines.append(f"{origin}: {path}: missing; it has to be given")
        else:
            message = error["msg"].removeprefix("Value error, ")
            # A rule over a whole section says itself what it found.
            found = "" if error["type"] == "value_error" else f"found {error['input']!r}; "
            place = f"{origin}: {path}" if path else origin
            lines.append(f"{place}: {found}{message[0].lower()}{message[1:]}")
    return "\n".join(dict.fromkeys(lines))


def _known_keys(error: ErrorDetails, root: type[BaseModel]) -> str:
    section: Any
    section, places = (TaskConfig, error["loc"][2:]) if error["loc"][0] == "task" else (root, error["loc"])
    for place in places[:-1]:
        if place in SPACES:
            section = SPACES[str(place)]
        elif str(place) in getattr(section, "model_fields", {}):
            section = section.model_fields[str(place)].annotation or section
    return "known keys here: " + ", ".join(key for key in section.model_fields if key not in ("task", "name"))
