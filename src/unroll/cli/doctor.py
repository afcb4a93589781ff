"""`unroll doctor`: can the pipeline run here, and if not, what to do."""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Annotated, Literal

import typer

from unroll.core import paths
from unroll.core.errors import UnrollError
from unroll.core.params import check_repository, read_config
from unroll.core.settings import Config
from unroll.data.competition import load_competition

MIN_DISK = 5 * 2**30
INSTALL = "pip install --requirement requirements.txt"
CREDENTIAL = "set KAGGLE_API_TOKEN, or put a token of https://www.kaggle.com/settings/api in ~/.kaggle/access_token"


@dataclass(frozen=True)
class Check:
    """A line of the table; with `fail` the pipeline cannot run."""

    name: str
    state: Literal["ok", "warn", "fail", "skipped"]
    found: str
    fix: str = ""


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    offline: Annotated[bool, typer.Option("--offline", help="Do not use the network.")] = False,
) -> None:
    """Check what the pipeline and Kaggle need, a line a check; the exit status is 0 if `make repro` can run.

    Example: unroll doctor --offline
    """
    checks = []
    for check in all_checks(offline=offline):
        checks.append(check)
        if not as_json:
            typer.echo(f"{check.state:<9}{check.name:<19}{check.found}")
            if check.fix and check.state in ("warn", "fail"):
                typer.echo(f"{'':<28}→ {check.fix}")
    failed = [check.name for check in checks if check.state == "fail"]
    if as_json:
        typer.echo(json.dumps({"ready": not failed, "checks": [asdict(check) for check in checks]}, indent=2))
    else:
        typer.echo(f"not ready: {', '.join(failed)}" if failed else "ready: `make repro` can run")
    if failed:
        raise SystemExit(1)


def all_checks(*, offline: bool) -> Iterator[Check]:
    """Yield every check, the fast ones first."""
    checks = {"packages": check_packages, "disk": check_disk, "DVC": check_dvc, "PyTorch": check_torch}
    for name, check in {**checks, "MLflow store": check_store, "settings": check_settings}.items():
        yield from guarded(name, check)
    with suppress(UnrollError):
        config = read_config(paths.PARAMS)
        yield from guarded("data", lambda: check_data(config))
        for each in guarded("Kaggle", lambda: check_kaggle(config, offline=offline)):
            # Without a download from Kaggle it is needed only to submit.
            is_optional = each.state == "fail" and config.data.source != "kaggle"
            yield replace(each, state="warn") if is_optional else each


def guarded(name: str, check: Callable[[], Check | Iterator[Check]]) -> Iterator[Check]:
    """Yield the lines of a check, or the error that it raised."""
    try:
        result = check()
        yield from [result] if isinstance(result, Check) else result
    except UnrollError as error:
        message, _, fix = str(error).partition("; ")
        yield Check(name, "fail", message, fix)
    except Exception as error:  # noqa: BLE001 a broken package can raise anything, and the other checks have to run
        message = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        yield Check(name, "fail", message, INSTALL if isinstance(error, ImportError) else "")


def check_packages() -> Check:
    """Compare the installed versions of the project's dependencies with requirements.txt."""
    file = Path("requirements.txt")
    lines = re.findall(r"^([\w.-]+)==([^\s;]+)", file.read_text() if file.is_file() else "", re.MULTILINE)
    pins = {name.lower(): version for name, version in lines}
    required = [line for line in metadata.requires("unroll") or [] if "extra ==" not in line]
    names = {re.split(r"[^\w.-]", line)[0].lower() for line in required}
    installed = {each.name.lower(): each.version.partition("+")[0] for each in metadata.distributions()}
    if missing := sorted(names - installed.keys()):
        return Check("packages", "fail", f"missing: {', '.join(missing)}", INSTALL)
    other = [f"{name} {installed[name]}" for name in sorted(names & pins.keys()) if installed[name] != pins[name]]
    if other:
        return Check("packages", "warn", f"not as pinned: {', '.join(other)}", INSTALL)
    return Check("packages", "ok", f"{len(names)} as pinned, on Python {platform.python_version()}")


def check_settings() -> Check:
    """Check params.yaml."""
    config = read_config(paths.PARAMS)
    return Check("settings", "ok", f"tasks {', '.join(config.tasks)}; cells {', '.join(config.cells)}")


def check_disk() -> Check:
    """Check that the project's folder can be written to and has space for models and runs."""
    here, free = Path.cwd(), shutil.disk_usage(".").free
    found = f"{here}: {free / 2**30:.1f} GiB free"
    if not os.access(here, os.W_OK):
        return Check("disk", "fail", f"{here}: not writable", "make the folder writable")
    if free < MIN_DISK:
        return Check("disk", "warn", found, f"free {MIN_DISK / 2**30:.0f} GiB for models, DVC's cache and MLflow")
    return Check("disk", "ok", found)


def check_dvc() -> Check:
    """Check that `dvc status` works here."""
    check_repository(Path.cwd())
    done = subprocess.run([sys.executable, "-m", "dvc", "status", "--json"], capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return Check("DVC", "fail", f"dvc status: {reason[:200]}", "`dvc status --verbose` prints more")
    return Check("DVC", "ok", f"{len(json.loads(done.stdout or '{}'))} stages to run")


def check_torch() -> Check:
    """Check that torch and torchtext load together, which pip does not, and name the device of a training."""
    import torch

    import unroll.text.vectors  # noqa: F401 loads torchtext

    device = f"{torch.get_num_threads()} CPU threads, fp32"
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
        device = f"{', '.join(names)}, {'bf16' if torch.cuda.is_bf16_supported() else 'fp32'}"
    return Check("PyTorch", "ok", f"torch {torch.__version__} with torchtext; trains on {device}")


def check_store() -> Check:
    """Check that the MLflow store opens; a server that is away is no failure, since training goes on without."""
    from unroll.tracking.store import open_store, tracking_uri

    uri = tracking_uri(Path.cwd())
    try:
        open_store(Path.cwd())
    except UnrollError as error:
        state: Literal["warn", "fail"] = "warn" if uri.startswith("http") else "fail"
        return Check("MLflow store", state, str(error), "correct MLFLOW_TRACKING_URI or unset it")
    return Check("MLflow store", "ok", uri)


def check_data(config: Config) -> Check:
    """Check that the raw files are where params.yaml says."""
    folder = Path(config.data.dir)
    if config.data.source != "local":
        return Check("data", "ok", f"downloaded from {config.data.source}")
    missing = [
        name for name in config.tasks if not (folder / load_competition(paths.competition(name)).folder).is_dir()
    ]
    if missing:
        fix = "`make repro` uses the sample, `make repro DATA=<folder>` yours"
        return Check("data", "fail", f"{folder}: no folder for {', '.join(missing)}", fix)
    return Check("data", "ok", f"{folder}{' (the sample)' if folder.resolve() == paths.SAMPLE.resolve() else ''}")


def check_kaggle(config: Config, *, offline: bool) -> Iterator[Check]:
    """Check the credential, the service, and that the rules of each competition are accepted."""
    from unroll.kaggle import client as kaggle
    from unroll.kaggle.competitions import see_competition

    credential = kaggle.find_credential()
    if credential is None:
        yield Check("Kaggle credential", "fail", "none found; needed to download and to submit", CREDENTIAL)
        return
    yield Check("Kaggle credential", "ok", f"{credential.kind} from {credential.place}")
    if offline:
        yield Check("Kaggle service", "skipped", "--offline")
        return
    client = kaggle.connect()
    yield Check("Kaggle service", "ok", f"user {kaggle.user_name(client) or 'unknown'}")
    for slug in filter(None, (load_competition(paths.competition(task)).competition for task in config.tasks)):
        status = see_competition(client, slug)
        if status.entered:
            closed = ", closed for submissions" if status.closed else ""
            yield Check("Kaggle rules", "ok", f"{slug}: accepted{closed}, {status.daily_limit} submissions a day")
        else:
            fix = f"accept its rules at https://www.kaggle.com/c/{slug}/rules"
            yield Check("Kaggle rules", "fail", f"{slug}: its rules are not accepted", fix)
