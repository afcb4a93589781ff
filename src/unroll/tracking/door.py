"""MLflow's own scoring server for one model, with a door in front that answers mistakes in one sentence.

A program of its own, `python -P door.py MODEL --host HOST --port PORT`: it imports nothing of the house, so that the
model is read with the code that was kept with it.

What stands at the door: every answer that says no is JSON with `error_code` and `message`, with no stack trace and no
copy of the request; the trace goes to standard error instead.
"""

import argparse
import json
import logging

import mlflow
import uvicorn
from fastapi import FastAPI, Request, Response
from mlflow.pyfunc import scoring_server

SERVED = ("application/json", "text/csv", "application/vnd.apache.parquet", "application/octet-stream")
HOW = 'send JSON such as {"dataframe_records": [{"text": "never dull"}]}, see docs/serving.md'
log = logging.getLogger("unroll.door")


def main() -> None:
    """Load the model and serve it until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="MLflow's address of the model")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=5001)
    arguments = parser.parse_args()
    app = scoring_server.init(mlflow.pyfunc.load_model(arguments.model))
    stand_at_the_door(app)
    uvicorn.run(app, host=arguments.host, port=arguments.port, log_level="warning")


def stand_at_the_door(app: FastAPI) -> None:
    """Put the door in front of MLflow's server."""

    @app.middleware("http")
    async def door(request: Request, call_next):  # type: ignore[no-untyped-def]
        if request.url.path == "/invocations" and request.method == "POST":
            refused = refuse(request.headers.get("content-type"), await request.body())
            if refused is not None:
                return refused
        try:
            answer = await call_next(request)
        except Exception:
            log.exception("%s %s", request.method, request.url.path)
            return sentence(500, "INTERNAL_ERROR", "the model could not answer; the server's log says why")
        if answer.status_code < 400:
            return answer
        body = b"".join([part async for part in answer.body_iterator])
        return tidy(answer.status_code, body)


def refuse(content_type: str | None, body: bytes) -> Response | None:
    """Return the answer to a request that MLflow's server would read in a way of its own, None for any other."""
    kind = (content_type or "").partition(";")[0].strip().lower()
    if kind not in SERVED:
        return sentence(415, "BAD_REQUEST", f"Content-Type: found {kind or 'none'}, expected application/json; {HOW}")
    if not body.strip():
        return sentence(400, "BAD_REQUEST", f"the request has no body; {HOW}")
    return None


def tidy(status: int, body: bytes) -> Response:
    """Return MLflow's refusal as one sentence."""
    try:
        content = json.loads(body)
        code, message = str(content.get("error_code", "BAD_REQUEST")), str(content.get("message") or content["detail"])
        if "stack_trace" in content:
            log.warning("%s", content["stack_trace"])
    except (ValueError, KeyError, AttributeError):
        code, message = "BAD_REQUEST", body.decode(errors="replace")
    return sentence(status, code, message)


def sentence(status: int, code: str, message: str) -> Response:
    """Return a refusal whose message is one line."""
    content = {"error_code": code, "message": first_sentence(message)}
    return Response(json.dumps(content), status_code=status, media_type="application/json")


def first_sentence(message: str) -> str:
    """Return what MLflow's message says, without the copy of the request and the advice on older versions around it."""
    message = message.rpartition("\nError: ")[2] if message.startswith("Failed to predict data") else message
    message = message.partition("\nInput:")[0].partition(". IMPORTANT: The MLflow Model scoring protocol")[0]
    return " ".join(message.split())


if __name__ == "__main__":
    main()
