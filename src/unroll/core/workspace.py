"""The folder that a person works in: is DVC able to run here, and the values that a command sets in params.yaml."""

import configparser
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedSeq
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.representer import RoundTripRepresenter

from unroll.core.errors import UnrollError
from unroll.core.files import new_file


def check_repository(root: Path) -> None:
    """Check that `dvc repro` can run in a folder.

    Raises:
        UnrollError: it is in no git repository, and DVC is not set up to do without one.
    """
    for name in ("config", "config.local"):
        settings = configparser.ConfigParser()
        settings.read(root / ".dvc" / name)
        if settings.getboolean("core", "no_scm", fallback=False):
            return
    if not any((folder / ".git").exists() for folder in (root, *root.parents)):
        raise UnrollError(
            f"{root}: not a git repository, which DVC needs; clone the project with git, or run "
            "`dvc config --local core.no_scm true` to do without"
        )


def set_params(path: Path, values: Mapping[str, Any]) -> None:
    """Set values of a YAML file, nested as in it; comments and other values stay, an unchanged file is not written.

    Raises:
        UnrollError: a key is not in the file.
    """
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    yaml.representer.add_representer(type(None), _write_null)
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
            raise UnrollError(f"{place}: {key}: no such key to set")
        if isinstance(value, Mapping) and value:
            _set(content[key], value, f"{place}: {key}")
        elif content[key] != value:
            content[key] = _in_one_line(value) if isinstance(value, list) else value


def _in_one_line(values: list[Any]) -> CommentedSeq:
    sequence = CommentedSeq(values)
    sequence.fa.set_flow_style()
    return sequence


def choose_profile(params: Path, profiles: Path, name: str) -> None:
    """Set the values of a profile, unless the file stands on it already: a value changed by hand stays then.

    Args:
        params: the YAML file; its key `profile` says which one it stands on.
        profiles: the folder with a YAML file a profile, all with the same keys.
        name: the profile wanted.

    Raises:
        UnrollError: there is no such profile.
    """
    yaml = YAML(typ="safe")
    known = sorted(path.stem for path in profiles.glob("*.yaml"))
    if name not in known:
        raise UnrollError(f"profile {name!r}: no file {profiles / name}.yaml; there are {', '.join(known)}")
    if yaml.load(params.read_text(encoding="utf-8")).get("profile") != name:
        values = yaml.load((profiles / f"{name}.yaml").read_text(encoding="utf-8"))
        set_params(params, {"profile": name, **values})


def _write_null(representer: RoundTripRepresenter, value: None) -> ScalarNode:
    """Write `null` as the word, where the library would leave the place empty."""
    node: ScalarNode = representer.represent_scalar("tag:yaml.org,2002:null", "null")
    return node
