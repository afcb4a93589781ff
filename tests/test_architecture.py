"""The rules of the architecture, checked against the source itself."""

import ast
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import get_args

import pytest
import yaml

from tests.support.imports import SOURCE, all_modules, direct_imports, import_closure, imported_names
from unroll.core.settings import CellName, Config, TaskConfig
from unroll.models.span_classifier import CELLS
from unroll.tracking.projection import REQUIREMENTS

ROOT = SOURCE.parent
LAYERS = (
    "core", "data", "text", "kaggle", "models", "evaluation", "training", "tuning", "tracking", "report", "stages",
    "cli",
)  # fmt: skip
SINGLE_IMPORTERS = {
    "kaggle": "unroll.kaggle",
    "kagglesdk": "unroll.kaggle",
    "torchtext": "unroll.text",
    "mlflow": "unroll.tracking",
    "matplotlib": "unroll.report",
    "jinja2": "unroll.report",
    "numba": "unroll.models.compiled",
    "ray": "unroll.tuning",
    "optuna": "unroll.tuning",
}
WITHOUT_EFFECT = {"core", "tracking"}  # core holds no default values, params.yaml does; tracking changes no output


def package(module: str) -> str:
    return module.split(".")[1]


def layer(module: str) -> int:
    return LAYERS.index(package(module))


def library() -> list[str]:
    return [name for name in all_modules() if name != "unroll"]


@pytest.mark.parametrize("module", library())
def test_imports_go_down_or_stay_in_their_layer(module: str) -> None:
    for imported in direct_imports(module):
        assert layer(imported) <= layer(module), f"{module} imports {imported}, which stands above it"


def test_packages_do_not_import_each_other() -> None:
    for module in library():
        for imported in direct_imports(module) - {module}:
            if package(imported) != package(module):
                assert module not in import_closure(imported), f"{module} and {imported} import each other"


@pytest.mark.parametrize("module", library())
def test_stages_and_commands_alone_know_paths(module: str) -> None:
    if package(module) in {"stages", "cli"} or module == "unroll.core.paths":
        return
    assert "unroll.core.paths" not in direct_imports(module)
    tree = ast.parse(all_modules()[module].read_text(encoding="utf-8"))
    texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    folders = ("data/raw", "data/rows", "data/corpus", "reports/", "models/")
    assert not [text for text in texts if text.startswith(folders)]


@pytest.mark.parametrize("library", SINGLE_IMPORTERS)
def test_a_library_has_one_importer(library: str) -> None:
    importers = {
        module
        for module, path in all_modules().items()
        if any(name.split(".")[0] == library for name in imported_names(path))
    }
    assert importers, f"nothing imports {library}"
    if library == "ray":
        importers -= {"unroll.training.parallel"}  # names Ray's joblib backend, in a function
    home = SINGLE_IMPORTERS[library]
    assert all(name == home or name.startswith(f"{home}.") for name in importers), importers


def test_a_served_model_asks_for_what_it_imports() -> None:
    files = (all_modules()[module] for module in import_closure("unroll.tracking.pyfunc"))
    imported = {name.split(".")[0] for file in files for name in imported_names(file)}
    distributions = packages_distributions()
    libraries = imported - set(sys.stdlib_module_names) - {"unroll", "mlflow"}
    assert {distributions[library][0] for library in libraries} == set(REQUIREMENTS)


@pytest.fixture(scope="module")
def pipeline() -> dict[str, dict[str, object]]:
    content = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
    return {name: stage.get("do", stage) for name, stage in content["stages"].items()}


STAGES = [name.rpartition(".")[2] for name in all_modules() if name.startswith("unroll.stages.")]


def test_every_stage_module_is_a_stage(pipeline: dict[str, dict[str, object]]) -> None:
    assert set(pipeline) == set(STAGES)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stages_deps_are_the_packages_it_imports(pipeline: dict[str, dict[str, object]], stage: str) -> None:
    deps = {str(dep) for dep in pipeline[stage]["deps"] if str(dep).startswith("src/")}  # type: ignore[attr-defined]
    closure = import_closure(f"unroll.stages.{stage}")
    packages = {package(name) for name in closure} - WITHOUT_EFFECT - {"stages"}
    expected = {f"src/unroll/{name}" for name in packages} | {f"src/unroll/stages/{stage}.py"}
    modules = {str(all_modules()[name].relative_to(ROOT)) for name in closure}
    for dep in deps - expected:  # a package may be named by those of its modules that are imported, all of them
        folder = dep.rpartition("/")[0]
        assert dep in modules, f"{dep} is not imported"
        inside = {name for name in modules if name.startswith(f"{folder}/") and not name.endswith("__init__.py")}
        assert inside <= deps, f"{inside - deps} are imported too"
        expected = expected - {folder} | inside
    assert deps == expected


def test_no_folder_is_deleted_before_its_stage_looks_into_it(pipeline: dict[str, dict[str, object]]) -> None:
    """DVC deletes the outputs of a stage before it runs it, unless they are marked `persist`."""
    for stage, description in pipeline.items():
        for output in [*description.get("outs", []), *description.get("plots", [])]:  # type: ignore[misc]
            name, options = next(iter(output.items())) if isinstance(output, dict) else (output, {})
            assert Path(name).suffix or options == {"persist": True}, f"{stage}: {name}"


def test_a_stages_params_are_settings_that_exist(pipeline: dict[str, dict[str, object]]) -> None:
    values = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for stage in pipeline.values():
        for name in stage.get("params", []):  # type: ignore[attr-defined]
            if isinstance(name, dict):
                keys = [key.split(".") for key in name["data/settings/${item}.json"]]
                assert {key[0] for key in keys} <= {*TaskConfig.model_fields, "corpus"}
                for section, *key in keys:
                    assert not key or set(key) <= TaskConfig.model_fields[section].annotation.model_fields.keys()  # type: ignore[union-attr]
            else:
                assert name in values


def test_the_pipelines_tasks_and_cells_are_those_of_the_settings(config: Config) -> None:
    content = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
    stages = content["stages"].items()
    assert {stage.get("foreach") for name, stage in stages if name not in {"hello", "report", "pretrain"}} == {
        "${tasks}"
    }
    assert content["stages"]["pretrain"]["foreach"] == "${pretrained}"
    assert set(config.cells) <= CELLS.keys() == set(get_args(CellName))


def test_importing_the_library_does_nothing(tmp_path: Path) -> None:
    modules = [name for name in library() if not name.endswith("scoring")]
    subprocess.run(
        [sys.executable, "-c", f"import {', '.join(modules)}"], cwd=tmp_path, check=True, capture_output=True
    )
    assert list(tmp_path.iterdir()) == []


def package_arrows() -> set[tuple[str, str]]:
    """Return which package imports which other one, read from the source."""
    pairs = {(package(name), package(imported)) for name in library() for imported in direct_imports(name)}
    return {(above, below) for above, below in pairs if above != below}


def test_the_picture_of_the_packages_is_that_of_the_source() -> None:
    """docs/architecture.md shows every arrow; each goes down, core is below all and left out."""
    drawn = (ROOT / "docs/architecture.md").read_text(encoding="utf-8").split("```mermaid")[1].split("```")[0]
    arrows = sorted(
        (arrow for arrow in package_arrows() if arrow[1] != "core"),
        key=lambda arrow: (-LAYERS.index(arrow[0]), -LAYERS.index(arrow[1])),
    )
    expected = ["flowchart TD", *(f"  {above} --> {below}" for above, below in arrows)]
    assert drawn.strip().splitlines() == expected, "write this in docs/architecture.md:\n" + "\n".join(expected)
    assert all(LAYERS.index(above) > LAYERS.index(below) for above, below in arrows)


@pytest.mark.parametrize("module", library())
def test_modules_and_functions_are_short(module: str) -> None:
    source = all_modules()[module].read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 300
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 60, node.name


def test_every_package_says_what_belongs_in_it_and_imports_nothing() -> None:
    for name, path in all_modules().items():
        if path.name == "__init__.py" and name != "unroll":
            tree = ast.parse(path.read_text(encoding="utf-8"))
            assert len(ast.get_docstring(tree) or "") > 30, name
