"""`unroll doctor`: can the pipeline run here, and if not, what to do."""

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer

from unroll.core import paths
from unroll.core.errors import UnrollError, brief
from unroll.core.params import check_repository, read_config
from unroll.data.competition import load_competition
from unroll.kaggle import client as kaggle
from unroll.kaggle.competitions import see_competition

MIN_DISK = 5 * 2**30
INSTALL = "pip install --requirement requirements.txt"
CREDENTIAL = "set KAGGLE_API_TOKEN, or put a token of https://www.kaggle.com/settings/api in ~/.kaggle/access_token"


@dataclass(frozen=True)
class Check:
    """A line of the table: what was found, and what to do if it is not right; `is_required` by the pipeline."""

    found: str
    fix: str = ""
    is_required: bool = True


def doctor(
    offline: Annotated[bool, typer.Option("--offline", help="Do not use the network.")] = False,
) -> None:
    """Check what the pipeline and Kaggle need, one line per check; the exit status is 0 if `make repro` can run.

    Example: unroll doctor --offline
    """
    checks: dict[str, Callable[[], Iterator[Check]]] = {
        "packages": check_packages, "disk": check_disk, "DVC": check_dvc, "PyTorch": check_torch,
        "MLflow store": check_store, "settings": check_settings, "Kaggle": lambda: check_kaggle(offline=offline),
    }  # fmt: skip
    failed = [name for name, check in checks.items() if sum(not show(name, line) for line in guarded(check))]
    typer.echo(f"not ready: {', '.join(failed)}" if failed else "ready: `make repro` can run")
    if failed:
        raise SystemExit(1)


def show(name: str, check: Check) -> bool:
    """Print a line, and below it what to do; return whether the pipeline can run."""
    state = "ok" if not check.fix else "fail" if check.is_required else "warn"
    typer.echo(f"{state:<6}{name:<14}{check.found}" + (f"\n{'':<20}→ {check.fix}" if check.fix else ""))
    return state != "fail"


def guarded(check: Callable[[], Iterator[Check]]) -> Iterator[Check]:
    """Yield the lines of a check, or the error that it raised."""
    try:
        yield from check()
    except UnrollError as error:
        message, _, fix = str(error).partition("; ")
        yield Check(message, fix or "correct what the line above says")
    except Exception as error:  # noqa: BLE001 a broken package can raise anything, and the other checks have to run
        yield Check(f"{type(error).__name__}: {brief(error)}", INSTALL)


def check_packages() -> Iterator[Check]:
    """Compare the installed versions of the project's dependencies with requirements.txt."""
    pins = dict(re.findall(r"^([\w.-]+)==([^\s;]+)", Path("requirements.txt").read_text(), re.MULTILINE))
    required = [line for line in metadata.requires("unroll") or [] if "extra ==" not in line]
    names = sorted({re.split(r"[^\w.-]", line)[0] for line in required} & pins.keys())
    found = {name: metadata.version(name).partition("+")[0] for name in names}
    if other := [f"{name} {found[name]}" for name in names if found[name] != pins[name]]:
        yield Check(f"other versions than in requirements.txt: {', '.join(other)}", INSTALL, is_required=False)
    else:
        yield Check(f"{len(names)} as pinned, on Python {platform.python_version()}")


def check_disk() -> Iterator[Check]:
    """Check that the project's folder can be written to and has space for models and runs."""
    here, free = Path.cwd(), shutil.disk_usage(".").free
    if not os.access(here, os.W_OK):
        yield Check(f"{here}: not writable", "make the folder writable")
    fix = "" if free >= MIN_DISK else f"free {MIN_DISK / 2**30:.0f} GiB for models, DVC's cache and MLflow"
    yield Check(f"{here}: {free / 2**30:.1f} GiB free", fix, is_required=False)


def check_dvc() -> Iterator[Check]:
    """Check that `dvc status` works here."""
    check_repository(Path.cwd())
    done = subprocess.run([sys.executable, "-m", "dvc", "status", "--quiet"], capture_output=True, text=True)
    if done.returncode not in (0, 1):  # 1: there are stages to run
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        yield Check(f"dvc status: {reason[:200]}", "`dvc status --verbose` prints more")
    else:
        yield Check("up to date" if not done.returncode else "there are stages to run")


def check_torch() -> Iterator[Check]:
    """Check that torch and torchtext load together, which pip does not, and name the device of a training."""
    import torch

    import unroll.text.vectors  # noqa: F401 loads torchtext

    device = f"{torch.get_num_threads()} CPU threads, fp32"
    if torch.cuda.is_available():
        device = f"{torch.cuda.get_device_name()}, {'bf16' if torch.cuda.is_bf16_supported() else 'fp32'}"
    yield Check(f"torch {torch.__version__} with torchtext; trains on {device}")


def check_store() -> Iterator[Check]:
    """Check that the MLflow store opens; a server that is away is no failure, since training goes on without."""
    from unroll.tracking.store import open_store, tracking_uri

    uri = tracking_uri(Path.cwd())
    try:
        open_store(Path.cwd())
        yield Check(uri)
    except UnrollError as error:
        is_set = "MLFLOW_TRACKING_URI" in os.environ
        fix = "correct MLFLOW_TRACKING_URI or unset it" if is_set else "move mlflow.db away and run `unroll track`"
        yield Check(str(error), fix, is_required=not uri.startswith("http"))


def check_settings() -> Iterator[Check]:
    """Check params.yaml, the definitions of its tasks, and that their raw files are where it says."""
    config = read_config(paths.PARAMS)
    folder, tasks = Path(config.data.dir), [load_competition(paths.competition(name)) for name in config.tasks]
    missing = [task.name for task in tasks if not (folder / task.folder).is_dir()]
    if missing and config.data.source == "local":
        fix = "`make repro DATA=data/sample` uses the sample, `make repro DATA=<folder>` yours"
        yield Check(f"{folder}: no folder for {', '.join(missing)}", fix)
    else:
        origin = "Kaggle" if config.data.source == "kaggle" else folder
        yield Check(f"tasks {', '.join(config.tasks)}; cells {', '.join(config.cells)}; data from {origin}")


def check_kaggle(*, offline: bool) -> Iterator[Check]:
    """Check the credential, the service, and that the rules of each competition are accepted.

    Without a download from Kaggle they are needed only to submit.
    """
    config = read_config(paths.PARAMS)
    is_required = config.data.source == "kaggle"
    try:
        credential = kaggle.find_credential()
        if credential is None:
            yield Check("no credential found; needed to download and to submit", CREDENTIAL, is_required)
            return
        yield Check(f"{credential.kind} from {credential.place}")
        if offline:
            return
        client = kaggle.connect()
        yield Check(f"user {kaggle.user_name(client) or 'unknown'}")
        for slug in filter(None, (load_competition(paths.competition(task)).competition for task in config.tasks)):
            status, rules = see_competition(client, slug), f"https://www.kaggle.com/c/{slug}/rules"
            if status.user_has_entered:
                closed = ", closed for submissions" if status.submissions_disabled else ""
                yield Check(f"{slug}: rules accepted{closed}, {status.max_daily_submissions} submissions a day")
            else:
                yield Check(f"{slug}: its rules are not accepted", f"accept its rules at {rules}", is_required)
    except UnrollError as error:
        message, _, fix = str(error).partition("; ")
        yield Check(message, fix or "try again", is_required)
