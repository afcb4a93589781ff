"""A DVC remote and MLflow's artifacts on S3-compatible storage, as docs/remote.md sets them up, on moto's server."""

import importlib.util
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.project import Project

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not all(importlib.util.find_spec(name) for name in ("moto", "boto3", "dvc_s3")),
        reason="dvc-s3 and moto are not installed: pip install -r requirements-grow.txt",
    ),
]
LAST = ("evaluate@sentiment", "submission@sentiment")
CREDENTIAL = {"AWS_ACCESS_KEY_ID": "someone", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}


@dataclass(frozen=True)
class Storage:
    """An S3 service with an empty bucket `unroll`."""

    url: str

    def names(self, prefix: str) -> list[str]:
        """Return the objects below a prefix."""
        import boto3

        client = boto3.client(
            "s3", endpoint_url=self.url, aws_access_key_id="someone", aws_secret_access_key="secret",
            region_name="us-east-1",
        )  # fmt: skip
        pages = client.get_paginator("list_objects_v2").paginate(Bucket="unroll", Prefix=prefix)
        return [item["Key"] for page in pages for item in page.get("Contents", [])]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def serve(command: list[str], url: str, environment: dict[str, str], log: Path) -> Iterator[None]:
    """Run a server until the block ends, which begins once it answers."""
    with log.open("w") as file:
        server = subprocess.Popen(command, env=environment, stdout=file, stderr=subprocess.STDOUT, cwd=log.parent)
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(url, timeout=5).close()
                break
            except OSError:
                assert server.poll() is None, log.read_text()
                time.sleep(0.2)
        yield
    finally:
        server.terminate()
        server.wait(timeout=60)


@pytest.fixture
def storage(sentiment_project: Project, tmp_path: Path) -> Iterator[Storage]:
    url = f"http://127.0.0.1:{(port := free_port())}"
    command = [str(Path(sys.executable).with_name("moto_server")), "-H", "127.0.0.1", "-p", str(port)]
    with serve(command, f"{url}/moto-api/", sentiment_project.environment(), tmp_path / "moto.log"):
        request = urllib.request.Request(f"{url}/unroll", method="PUT", headers={"Authorization": "AWS someone:x"})
        urllib.request.urlopen(request, timeout=10).close()
        yield Storage(url)


def test_outputs_are_pushed_and_pulled(sentiment_project: Project, storage: Storage) -> None:
    project = sentiment_project
    before = project.state()
    project.run("dvc", "remote", "add", "--local", "--default", "store", "s3://unroll/dvc")
    project.run("dvc", "remote", "modify", "--local", "store", "endpointurl", storage.url)
    project.run("dvc", "push", **CREDENTIAL)  # type: ignore[arg-type]
    assert len(storage.names("dvc/")) > 20
    shutil.rmtree(project.folder / ".dvc/cache")
    for name in ("data/raw", "data/rows", "data/corpus", "data/ensemble", "models"):
        shutil.rmtree(project.folder / name)
    (project.folder / "reports/submissions/sentiment.csv").unlink()
    project.run("dvc", "pull", "--with-deps", *LAST, **CREDENTIAL)  # type: ignore[arg-type]
    assert project.state() == before
    assert "up to date" in project.run("dvc", "repro", *LAST).stdout


FETCH = """
import mlflow
wanted = {"filter_string": "run_name = 'sentiment GRU'", "output_format": "list"}
run = mlflow.search_runs(experiment_names=["sentiment"], **wanted)[0]
models = mlflow.search_logged_models([run.info.experiment_id], output_format="list")
found = next(model for model in models if model.source_run_id == run.info.run_id)
print(mlflow.artifacts.download_artifacts(f"models:/{found.model_id}", dst_path="fetched"))
"""


def test_models_lie_on_the_storage(sentiment_project: Project, storage: Storage, tmp_path: Path) -> None:
    project = sentiment_project
    url = f"http://127.0.0.1:{(port := free_port())}"
    command = [
        str(Path(sys.executable).with_name("mlflow")), "server", "--backend-store-uri", f"sqlite:///{tmp_path}/runs.db",
        "--artifacts-destination", "s3://unroll/mlflow", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
    ]  # fmt: skip
    environment = project.environment() | CREDENTIAL | {"MLFLOW_S3_ENDPOINT_URL": storage.url}
    with serve(command, f"{url}/health", environment, tmp_path / "mlflow.log"):
        project.run("unroll", "track", "sentiment", MLFLOW_TRACKING_URI=url)
        names = storage.names("mlflow/")
        assert any(name.endswith("weights.safetensors") for name in names)
        project.run("python", "-c", FETCH, MLFLOW_TRACKING_URI=url)
    fetched = sorted(path.read_bytes() for path in (project.folder / "fetched").rglob("weights.safetensors"))
    trained = sorted(path.read_bytes() for path in (project.folder / "models/sentiment/GRU").rglob("*.safetensors"))
    assert fetched == trained
