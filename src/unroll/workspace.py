"""The folder that a person works in: is DVC able to run here, and the values that a command sets in params.yaml."""

import configparser
import io
from collections.abc import Mapping
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.representer import RoundTripRepresenter

from unroll.errors import UnrollError
from unroll.files import new_file


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


def set_params(path: Path, section: str, values: Mapping[str, str]) -> None:
    """Set values of a section of a YAML file; comments stay, and an unchanged file is not written."""
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    yaml.representer.add_representer(type(None), _write_null)
    before = path.read_text(encoding="utf-8")
    content = yaml.load(before)
    content[section].update(values)
    after = io.StringIO()
    yaml.dump(content, after)
    if after.getvalue() != before:
        with new_file(path) as scratch:
            scratch.write_text(after.getvalue(), encoding="utf-8")


def _write_null(representer: RoundTripRepresenter, value: None) -> ScalarNode:
    """Write `null` as the word, where the library would leave the place empty."""
    node: ScalarNode = representer.represent_scalar("tag:yaml.org,2002:null", "null")
    return node
