"""MLflow's own scoring server for one model, with a door in front that answers mistakes in one sentence.

A program of its own, `python -P door.py MODEL --host HOST --port PORT`: it imports nothing of the house, so that the
model is read with the code that was kept with it.

Left to itself, MLflow's server reads a null as the text "None" and a number as its digits, answers an empty list with
none, and shows a stack trace where a CSV is broken. The door looks at a request first, and every answer that says no is
JSON with `error_code` and `message`, without a trace and without a copy of the request; traces go to standard error.
"""

import argparse
import csv
import io
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import mlflow
import uvicorn
from fastapi import FastAPI, Request, Response
from mlflow.pyfunc import scoring_server

JSON, CSV, PARQUET = "application/json", "text/csv", "application/vnd.apache.parquet"
FORMS = ("dataframe_records", "dataframe_split", "inputs", "instances")
COLUMN = "text"
EXAMPLE = 'for example {"dataframe_records": [{"text": "never dull"}]}'
log = logging.getLogger("unroll.door")


def main() -> None:
    """Load the model and serve it until interrupted."""
    parser = argparse.ArgumentParser(description="Serve one model.")
    parser.add_argument("model", help="MLflow's address of it")
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    app = scoring_server.init(mlflow.pyfunc.load_model(arguments.model))
    stand_at_the_door(app)
    uvicorn.run(app, host=arguments.host, port=arguments.port, log_level="warning")


def stand_at_the_door(app: FastAPI) -> None:
    """Put the door in front of MLflow's server."""

    @app.middleware("http")
    async def door(request: Request, call_next: Callable[[Request], Awaitable[Any]]) -> Response:
        if request.url.path == "/invocations" and request.method == "POST":
            status, fault = find_fault(request.headers.get("content-type", ""), await request.body())
            if fault:
                return refuse(status, "BAD_REQUEST", fault)
        try:
            answer = await call_next(request)
            if answer.status_code < 400:
                return answer  # type: ignore[no-any-return]
            return tidy(answer.status_code, b"".join([part async for part in answer.body_iterator]))
        except Exception:
            log.exception("%s %s", request.method, request.url.path)
            return refuse(500, "INTERNAL_ERROR", "the model could not answer; the server's log says why")


def find_fault(content_type: str, body: bytes) -> tuple[int, str]:
    """Return the status and the sentence that a request is refused with, the sentence empty where nothing is wrong."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind not in (JSON, CSV, PARQUET):
        return 415, f"Content-Type: found {kind or 'none'}, expected {JSON} or {CSV}"
    if kind == PARQUET:
        return 400, ""
    try:
        content = body.decode("utf-8-sig" if kind == CSV else "utf-8")
        return 400, find_fault_in_csv(content) if kind == CSV else find_fault_in_json(json.loads(content))
    except UnicodeDecodeError as error:
        return 400, f"the body is not UTF-8 (byte {error.start})"
    except (ValueError, RecursionError) as error:
        return 400, f"the body is not JSON ({error}); {EXAMPLE}"
    except csv.Error as error:
        return 400, f"the body is not CSV ({error}); the first line names the column {COLUMN}"


def find_fault_in_json(content: Any) -> str:
    """Return what is wrong with a body in one of MLflow's four forms, empty where nothing is."""
    forms = [form for form in FORMS if isinstance(content, dict) and form in content]
    if len(forms) != 1:
        found = f"one with {', '.join(content) or 'nothing'}" if isinstance(content, dict) else named(content)
        return f"expected an object with exactly one of {', '.join(FORMS)}, found {found}; {EXAMPLE}"
    form, value = forms[0], content[forms[0]]
    if form == "dataframe_split":
        columns = value.get("columns") if isinstance(value, dict) else None
        rows = value.get("data") if isinstance(value, dict) else None
        if not isinstance(columns, list) or not isinstance(rows, list):
            return f"{form}: expected an object with the lists columns and data, found {named(value)}"
        if COLUMN not in columns:
            return f"{form}: there is no column {COLUMN}; found {', '.join(map(str, columns)) or 'none'}"
        for number, row in enumerate(rows):
            if not isinstance(row, list) or len(row) != len(columns):
                return f"{form}: row {number}: expected a list of {len(columns)}, found {named(row)}"
        return find_fault_in_texts(form, [row[columns.index(COLUMN)] for row in rows])
    if form != "dataframe_records" and isinstance(value, dict):
        if COLUMN not in value:
            return f"{form}: there is no column {COLUMN}; found {', '.join(value) or 'none'}"
        value = value[COLUMN] if isinstance(value[COLUMN], list) else [value[COLUMN]]
        return find_fault_in_texts(form, value)
    if not isinstance(value, list):
        return f"{form}: expected a list, found {named(value)}; {EXAMPLE}"
    if form != "dataframe_records" and not any(isinstance(row, dict) for row in value):
        return find_fault_in_texts(form, value)
    for number, row in enumerate(value):
        if not isinstance(row, dict):
            return f"{form}: row {number}: expected an object with {COLUMN}, found {named(row)}; {EXAMPLE}"
        if COLUMN not in row:
            return f"{form}: row {number}: there is no {COLUMN}; found {', '.join(row) or 'nothing'}; {EXAMPLE}"
    return find_fault_in_texts(form, [row[COLUMN] for row in value])


def find_fault_in_csv(content: str) -> str:
    """Return what is wrong with a CSV, empty where nothing is."""
    header, *rows = [row for row in csv.reader(io.StringIO(content, newline=""), strict=True) if row] or [[]]
    if COLUMN not in header:
        return f"line 1: there is no column {COLUMN}; found {', '.join(header) or 'nothing'}"
    for number, row in enumerate(rows):
        if len(row) != len(header):
            return f"row {number}: expected {len(header)} fields, found {len(row)}"
    return find_fault_in_texts("the CSV", [row[header.index(COLUMN)] for row in rows])


def find_fault_in_texts(form: str, texts: list[Any]) -> str:
    """Return which text is none, empty where all are."""
    if not texts:
        return f"{form}: there are no rows; give at least one text"
    for number, text in enumerate(texts):
        if not isinstance(text, str) or not text.strip():
            return f"{form}: row {number}: {COLUMN}: found {named(text)}, expected a string that is not empty"
        if any("\ud800" <= character <= "\udfff" for character in text):
            return f"{form}: row {number}: {COLUMN}: found half of a character (a lone surrogate)"
    return ""


def named(value: Any) -> str:
    """Return what a JSON value is, in a word, so that a message stays short."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return "a string" if value.strip() else "an empty string"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return "an object" if isinstance(value, dict) else f"the number {value}"


def tidy(status: int, body: bytes) -> Response:
    """Return MLflow's own refusal in one sentence, its trace on standard error."""
    code, message = "BAD_REQUEST", body.decode(errors="replace")
    try:
        content = json.loads(message)
        code, message = content.get("error_code", code), content.get("message") or content["detail"]
        if "stack_trace" in content:
            log.warning("%s", content["stack_trace"])
    except (ValueError, KeyError, AttributeError):
        pass  # plain text
    message = str(message)
    if message.startswith("Failed to predict data"):  # a copy of the data, then what is wrong with it
        message = message.rpartition("Error: ")[2]
    return refuse(status, str(code), message.partition(" IMPORTANT: ")[0])


def refuse(status: int, code: str, message: str) -> Response:
    """Return a refusal whose message is one line."""
    content = {"error_code": code, "message": " ".join(message.split())}
    return Response(json.dumps(content), status_code=status, media_type=JSON)


if __name__ == "__main__":
    main()
