"""`unroll doctor`: can the main job run here, and how to fix what stands in its way."""

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import typer

from unroll.core import paths
from unroll.core.errors import UnrollError
from unroll.core.params import read_config
from unroll.core.settings import Config
from unroll.core.workspace import check_repository
from unroll.data.competition import load_competition

ENOUGH_DISK = 5 * 2**30
PAIR = ("torch", "torchtext")
NAME_WIDTH = 19  # of the table's second column


@dataclass(frozen=True)
class Check:
    """A line of the table: `fail` stands in the way of the main job, `warn` does not."""

    name: str
    state: Literal["ok", "warn", "fail", "skipped"]
    found: str
    fix: str = ""


def doctor(*, as_json: bool, offline: bool) -> None:
    """Print the table.

    Args:
        as_json: print a list of objects instead.
        offline: ask nothing of the network.

    Raises:
        SystemExit: with status 1 where the main job cannot run.
    """
    checks = []
    for check in all_checks(offline=offline):
        checks.append(check)
        if not as_json:
            print_check(check)
    failed = [check.name for check in checks if check.state == "fail"]
    if as_json:
        typer.echo(json.dumps({"ready": not failed, "checks": [asdict(check) for check in checks]}, indent=2))
    else:
        typer.echo(f"not ready: {', '.join(failed)}" if failed else "ready: `make repro` can run")
    if failed:
        raise SystemExit(1)


def print_check(check: Check) -> None:
    """Print a line, and one below it that says how to fix what is wrong."""
    typer.echo(f"{check.state:<9}{check.name:<{NAME_WIDTH}}{check.found}")
    if check.fix and check.state in ("warn", "fail"):
        typer.echo(f"{'':<{NAME_WIDTH + 9}}→ {check.fix}")


def all_checks(*, offline: bool) -> Iterator[Check]:
    """Yield every check, the cheap ones first."""
    for name, check in (("Python", check_python), ("packages", check_packages), ("torch pair", check_pair)):
        yield from guarded(name, check)
    config = None
    try:
        config = read_config(paths.PARAMS)
        found = f"{paths.PARAMS}: tasks {', '.join(config.tasks)}; cells {', '.join(config.cells)}"
        yield Check("settings", "ok", found)
    except UnrollError as error:
        yield Check("settings", "fail", str(error), "fix the file, or run this in the folder that holds it")
    later = (("disk", check_disk), ("DVC", check_dvc), ("MLflow store", check_store), ("devices", check_devices))
    for name, check in later:
        yield from guarded(name, check)
    if config is not None:
        yield from guarded("data", check_data, config)
        yield from guarded("Kaggle", check_kaggle, config, offline=offline)


def guarded(
    name: str, check: Callable[..., Check | Iterator[Check]], *arguments: Any, **options: Any
) -> Iterator[Check]:
    """Yield a check's lines, or one that says why it broke: what is broken must not break its doctor."""
    try:
        result = check(*arguments, **options)
        yield from [result] if isinstance(result, Check) else result
    except Exception as error:  # noqa: BLE001 a broken package, file or store can raise anything
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        fix = "pip install --requirement requirements.txt" if isinstance(error, ImportError) else "see the reason"
        yield Check(name, "fail", reason, fix)


def check_python() -> Check:
    """Python 3.11, for which the requirements are pinned."""
    found = f"{platform.python_version()} ({sys.executable})"
    if sys.version_info[:2] == (3, 11):
        return Check("Python", "ok", found)
    return Check("Python", "fail", found, "use Python 3.11: `make repro PYTHON=/path/to/python3.11`")


def check_packages() -> Check:
    """Every package that the project names is installed; versions are compared with requirements.txt."""
    required = [line for line in metadata.requires("unroll") or [] if "extra ==" not in line]  # extras are a choice
    names = [line.partition("=")[0] for line in required]
    missing, versions = [], {}
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        return Check("packages", "fail", f"missing: {', '.join(missing)}", "pip install --requirement requirements.txt")
    pins = read_pins(Path("requirements.txt"))
    other = [f"{name} {versions[name]} for {pins[name]}" for name in names
             if name in pins and versions[name].partition("+")[0] != pins[name]]  # fmt: skip
    if other:
        found = f"other than pinned: {', '.join(other)}"
        return Check("packages", "warn", found, "pip install --requirement requirements.txt")
    return Check("packages", "ok", f"{len(names)} as pinned" if pins else f"{len(names)} installed")


def read_pins(path: Path) -> dict[str, str]:
    """Return the versions that a requirements file pins, by name."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    pairs = [line.partition(";")[0].split()[0].split("==") for line in lines if "==" in line and line[0] != "#"]
    return {name.lower(): version for name, version in (pair for pair in pairs if len(pair) == 2)}


def check_pair() -> Check:
    """Torch and torchtext load together, which pip does not check."""
    code = "import torch, torchtext.vocab; print(torch.__version__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    versions = []
    for name in PAIR:
        try:
            versions.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            versions.append(f"{name} missing")
    if done.returncode == 0:
        return Check("torch pair", "ok", f"{' and '.join(versions)} load together")
    reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1][:200]
    fix = "pip install torch==2.13.0 torchtext==0.6.0, the pair that works"
    return Check("torch pair", "fail", f"{' and '.join(versions)}: {reason}", fix)


def check_disk() -> Check:
    """The project's folder can be written to and has room for models and runs."""
    here = Path.cwd()
    try:
        with tempfile.NamedTemporaryFile(dir=here):
            pass
    except OSError as error:
        return Check("disk", "fail", f"{here}: cannot be written to ({error.strerror})", "give yourself write access")
    free = shutil.disk_usage(here).free
    found = f"{here}: writable, {free / 2**30:.1f} GiB free"
    if free < ENOUGH_DISK:
        return Check("disk", "warn", found, f"have {ENOUGH_DISK / 2**30:.0f} GiB free: models, DVC's cache and MLflow")
    return Check("disk", "ok", found)


def check_dvc() -> Check:
    """DVC is set up here, in a git repository, and its cache can be written to."""
    root = Path.cwd()
    if not (root / ".dvc").is_dir():
        return Check("DVC", "fail", f"{root}: no .dvc folder", "clone the project with git, or run `dvc init`")
    try:
        check_repository(root)
    except UnrollError as error:
        found, _, fix = str(error).partition("; ")
        return Check("DVC", "fail", found, fix)
    cache = root / ".dvc/cache"
    if cache.exists() and not os.access(cache, os.W_OK):
        return Check("DVC", "fail", f"{cache}: cannot be written to", "give yourself write access to it")
    done = subprocess.run([sys.executable, "-m", "dvc", "status", "--json"], capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        return Check("DVC", "fail", f"dvc status: {reason[:200]}", "`dvc status --verbose` says more")
    changed = json.loads(done.stdout or "{}")
    bytes_kept = sum(path.stat().st_size for path in cache.rglob("*") if path.is_file()) if cache.exists() else 0
    kept = f"cache {bytes_kept / 2**20:.0f} MiB"
    if changed:
        return Check("DVC", "ok", f"initialised; {len(changed)} stages to run, {kept}")
    return Check("DVC", "ok", f"initialised; every stage up to date, {kept}")


def check_store() -> Check:
    """The MLflow store opens."""
    from unroll import tracking

    try:
        tracking.open_store(Path.cwd())
    except UnrollError as error:
        return Check("MLflow store", "fail", str(error), "correct MLFLOW_TRACKING_URI, or unset it")
    return Check("MLflow store", "ok", tracking.tracking_uri(Path.cwd()))


def check_devices() -> Check:
    """Where training would run."""
    import torch

    if torch.cuda.is_available():
        names = ", ".join(torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count()))
        precision = "bf16" if torch.cuda.is_bf16_supported() else "fp32"
        return Check("devices", "ok", f"{names}, trained in {precision}")
    return Check("devices", "ok", f"CPU with {torch.get_num_threads()} threads, trained in fp32; no CUDA device")


def check_data(config: Config) -> Iterator[Check]:
    """The raw files are where the settings say."""
    from unroll.kaggle.downloads import find_origin

    if config.data.source != "local":
        origins = [
            find_origin(load_competition(paths.competition(name)), config.data.mirrors.get(name))
            for name in config.tasks
        ]
        yield Check("data", "ok", f"to be downloaded from {', '.join(origins)}")
        return
    missing = [
        name
        for name in config.tasks
        if not (Path(config.data.dir) / load_competition(paths.competition(name)).folder).is_dir()
    ]
    if missing:
        found = f"{config.data.dir}: no folder for {', '.join(missing)}"
        yield Check("data", "fail", found, "`make repro` takes the sample, `make repro DATA=<folder>` yours")
        return
    is_sample = Path(config.data.dir).resolve() == paths.SAMPLE.resolve()
    yield Check("data", "ok", f"{config.data.dir}{' (the sample: nothing to submit)' if is_sample else ''}")


def check_kaggle(config: Config, *, offline: bool) -> Iterator[Check]:
    """There is a credential, the service takes it, and the rules of each competition are accepted.

    All of it is needed where the files come from Kaggle; elsewhere only to submit, and then a lack is a warning.
    """
    from unroll.kaggle import client as kaggle

    bad: Literal["warn", "fail"] = "fail" if config.data.source == "kaggle" else "warn"
    try:
        credential = kaggle.find_credential()
    except UnrollError as error:
        yield Check("Kaggle credential", bad, str(error), "write the file again, as UTF-8 text that you own")
        return
    if credential is None:
        fix = (
            "make a token at https://www.kaggle.com/settings/api and set KAGGLE_API_TOKEN, or put it into "
            "~/.kaggle/access_token"
        )
        yield Check("Kaggle credential", bad, "none found; needed to download and to submit", fix)
        yield Check("Kaggle service", "skipped", "there is no credential to ask with")
        return
    yield Check("Kaggle credential", "ok", f"{credential.kind} from {credential.place}")
    if offline:
        yield Check("Kaggle service", "skipped", "--offline")
        return
    elsewhere = "check the network and the credential; `unroll doctor --offline` leaves this out"
    try:
        client = kaggle.connect()
    except UnrollError as error:
        yield Check("Kaggle service", bad, str(error), elsewhere)
        return
    yield Check("Kaggle user", "ok", kaggle.user_name(client) or "the owner of the credential")
    for slug in [
        slug for name in config.tasks if (slug := load_competition(paths.competition(name)).competition) is not None
    ]:
        rules = f"accept its rules at https://www.kaggle.com/c/{slug}/rules"
        try:
            standing = kaggle.see_competition(client, slug)
        except UnrollError as error:
            yield Check("Kaggle service", bad, str(error), rules if ": 403:" in str(error) else elsewhere)
            continue
        yield Check("Kaggle service", "ok", "answers")
        if standing.entered:
            closed = ", closed for submissions" if standing.closed else ""
            yield Check("Kaggle rules", "ok", f"{slug}: accepted{closed}, {standing.daily_limit} submissions a day")
        else:
            yield Check("Kaggle rules", bad, f"{slug}: its rules are not accepted", rules)
