"""The official client against a stand-in of the service on the loopback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.kaggle_service import TOKEN, Service, the_port
from unroll.core.errors import UnrollError
from unroll.kaggle import client as kaggle


def refused() -> str:
    with pytest.raises(UnrollError) as error:
        kaggle.connect()
    assert TOKEN[:-1] not in str(error.value)
    return str(error.value)


def test_a_token_in_the_environment_is_used(service: Service) -> None:
    assert kaggle.find_credential() == kaggle.Credential("access token", "the variable KAGGLE_API_TOKEN")
    assert kaggle.user_name(kaggle.connect()) == "student"
    assert service.asked == ["IntrospectToken"]


def test_a_bad_token_is_named_and_not_shown(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAGGLE_API_TOKEN", TOKEN[:-1] + "x")
    assert refused().startswith("Kaggle: 401: the credential is not valid; make a new token at https://")


def test_without_a_service_it_says_so() -> None:
    with the_port():
        assert refused() == "Kaggle: the service cannot be reached; check the network and try again"


def test_without_a_credential_it_says_how_to_get_one(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    assert kaggle.find_credential() is None
    assert "no credential found; set KAGGLE_API_TOKEN" in refused()
    assert service.asked == []


def test_a_token_in_a_file_is_found_and_no_request_is_made(home: Path) -> None:
    """In a process of its own: the client's import would make a request to the service in production."""
    (home / ".kaggle/access_token").write_text(TOKEN)
    code = (
        "import socket\n"
        "def refuse(*arguments, **options): raise AssertionError('asked the network')\n"
        "socket.create_connection = socket.getaddrinfo = refuse\n"
        "from unroll.kaggle import client as kaggle; print(kaggle.find_credential())"
    )
    environment = {key: value for key, value in os.environ.items() if key != "KAGGLE_API_TOKEN"}
    done = subprocess.run([sys.executable, "-c", code], cwd=home, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "~/.kaggle/access_token" in done.stdout
    assert TOKEN not in done.stdout


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("kaggle.json", b'{"username": "u", "key": "k"}', None),
        ("kaggle.json", b'\xef\xbb\xbf{"username": "u", "key": "k"}', "kaggle.json: the credential cannot be read"),
        ("kaggle.json", b'{"username": "u", ', "kaggle.json: the credential cannot be read"),
        ("kaggle.json", b'{"username": "u"}', "kaggle.json: the credential cannot be read (expected username and key)"),
        ("access_token", TOKEN.encode("utf-16"), "access_token: the credential cannot be read"),
    ],
)
def test_a_credential_that_cannot_be_read_is_one_sentence(
    home: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes, told: str | None
) -> None:
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    (home / ".kaggle" / name).write_bytes(content)
    (home / ".kaggle" / name).chmod(0o600)
    if told is None:
        assert kaggle.find_credential() == kaggle.Credential("user name and key", str(home / ".kaggle" / name))
        return
    for read in (kaggle.find_credential, kaggle.connect):
        with pytest.raises(UnrollError) as error:
            read()
        assert told in str(error.value)
        assert str(error.value).startswith("Kaggle: ")


def test_an_unknown_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "PRODUCTION")
    with pytest.raises(UnrollError, match="KAGGLE_API_ENVIRONMENT: found 'PRODUCTION', expected one of PROD"):
        kaggle.find_credential()


def test_secrets_and_signed_addresses_are_taken_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAGGLE_KEY", "0123456789abcdef")
    shown = kaggle.hide(
        "key 0123456789abcdef at https://host/file.zip?X-Signature=abc and url: /upload/xyz (Caused by)"
    )
    assert shown == "key … at https://host/file.zip… and url: /upload/… (Caused by)"
