"""params.yaml: reading it, setting values in it, and where it has to stand."""

import configparser
import io
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from unroll.core.errors import UnrollError
from unroll.core.files import new_file
from unroll.core.settings import Config

LEVELS = 3  # of a task's settings: sections, their keys, and the settings that tune.space names


def read_config(path: Path) -> Config:
    """Read and check params.yaml.

    Raises:
        UnrollError: the file is missing, is not YAML, or has an unknown key or an invalid value; the message gives each
            such key's path, what was found and what is accepted.
    """
    try:
        return parse_config(read_yaml(path, "sections such as `seed:` and `data:`"), str(path))
    except FileNotFoundError:
        raise UnrollError(f"{path}: no such file; run this in the project's folder") from None


def read_yaml(path: Path, expected: str) -> dict[str, Any]:
    """Return the mapping that a YAML file holds.

    Raises:
        FileNotFoundError: there is no such file.
        UnrollError: it is not YAML, or not a mapping, of what is expected.
    """
    try:
        values: Any = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except (YAMLError, UnicodeDecodeError) as error:
        raise UnrollError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise UnrollError(f"{path}: expected {expected}, found {type(values).__name__}")
    return values


def parse_config(values: dict[str, Any], origin: str = "params.yaml") -> Config:
    """Check the mapping that params.yaml holds, and merge each task's section with the defaults.

    A section of a task that `tasks` does not list is checked too.

    Raises:
        UnrollError: see read_config.
    """
    sections = {
        key: value for key, value in values.items() if key not in Config.model_fields and isinstance(value, dict)
    }
    rest = {key: value for key, value in values.items() if key not in sections}
    tasks, defaults = values.get("tasks"), values.get("defaults")
    named = [name for name in tasks if isinstance(name, str)] if isinstance(tasks, list) else []
    merged = {name: merge(defaults, sections.get(name, {})) for name in dict.fromkeys([*named, *sections])}
    try:
        Config.model_validate({**rest, "task": {}})  # the defaults are in every task, so their faults come first
        return Config.model_validate({**rest, "task": merged})
    except ValidationError as error:
        raise UnrollError(explain_errors(error.errors(), origin)) from None


def merge(defaults: Any, values: Any, levels: int = LEVELS) -> Any:
    """Return mappings merged key by key so many levels down; any other value replaces the default."""
    if not isinstance(defaults, dict) or not isinstance(values, dict) or not levels:
        return values
    return {**defaults, **{key: merge(defaults.get(key), value, levels - 1) for key, value in values.items()}}


def explain_errors(errors: Iterable[ErrorDetails], origin: str) -> str:
    """Return a line for each invalid value that pydantic found in a file: its path, what it is, what is accepted."""
    lines = []
    for error in errors:
        names = [str(name) for name in error["loc"]]
        path = ": ".join(filter(None, [origin, ".".join(names[1:] if names[:1] == ["task"] else names)]))
        message, found = error["msg"].removeprefix("Value error, "), error["input"]
        if error["type"] == "missing":
            lines.append(f"{path}: missing; add the key")
        elif error["type"] == "value_error":  # of a validator here, which names the key below its section itself
            names_key = path != origin and re.match(r"[\w.]+: ", message)
            lines.append(f"{path}{'.' if names_key else ': '}{message}")
        elif error["type"] == "tuple_type":
            lines.append(f"{path}: found {found!r}, expected a list, as in [{found}]")
        else:
            lines.append(f"{path}: found {found!r}; {message[0].lower()}{message[1:]}")
    return "\n".join(dict.fromkeys(lines))


def set_params(path: Path, values: Mapping[str, Any]) -> None:
    """Set values of a YAML file, nested as in it. Comments and other values stay; an unchanged file is not written.

    Raises:
        UnrollError: a key is not in the file.
    """
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    yaml.representer.add_representer(
        type(None), lambda representer, _: representer.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    before = path.read_text(encoding="utf-8")
    content = yaml.load(before)
    _set(content, values, str(path))
    after = io.StringIO()
    yaml.dump(content, after)
    if after.getvalue() != before:
        with new_file(path) as scratch:
            scratch.write_text(after.getvalue(), encoding="utf-8")


def _set(content: Any, values: Mapping[str, Any], place: str) -> None:
    for key, value in values.items():
        if key not in content:
            raise UnrollError(f"{place}: {key}: no such key")
        if isinstance(value, Mapping) and value:
            _set(content[key], value, f"{place}: {key}")
        elif isinstance(value, list):
            content[key][:] = value  # in place: the comments around a list belong to it
        elif content[key] != value:
            content[key] = value


def choose_profile(params: Path, profiles: Path, name: str) -> None:
    """Set the values of a profile, unless params.yaml is on it already: values changed by hand then stay.

    Args:
        params: the YAML file; its key `profile` names the one that it is on.
        profiles: the folder with a YAML file a profile, all with the same keys.
        name: the profile wanted.

    Raises:
        UnrollError: there is no such profile.
    """
    known = sorted(path.stem for path in profiles.glob("*.yaml"))
    if name not in known:
        raise UnrollError(f"profile {name!r}: no file {profiles / name}.yaml; known profiles: {', '.join(known)}")
    present = read_yaml(params, "sections")
    if present.get("profile") != name:
        values = read_yaml(profiles / f"{name}.yaml", "sections, as in params.yaml")
        values["pretrained"] = [task for task in values.get("pretrained", []) if task in present["tasks"]]
        set_params(params, {"profile": name, **values})


def check_repository(root: Path) -> None:
    """Check that `dvc repro` can run in a folder.

    Raises:
        UnrollError: it is in no git repository, and DVC's core.no_scm is not set.
    """
    settings = configparser.ConfigParser()
    settings.read([root / ".dvc/config", root / ".dvc/config.local"])
    has_git = any((folder / ".git").exists() for folder in (root, *root.parents))
    if not has_git and not settings.getboolean("core", "no_scm", fallback=False):
        raise UnrollError(
            f"{root}: not a git repository, which DVC needs; clone the project with git, or run "
            "`dvc config --local core.no_scm true`"
        )
