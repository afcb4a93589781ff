# The pipeline and its dependencies, run by a user that is not root.
FROM python:3.13.7-slim-bookworm

# npm, for the word vectors of profiles/best.yaml; git and make, for work inside the container. Debian keeps only the newest
# version of a package, so none is pinned.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends git make npm \
    && rm -rf /var/lib/apt/lists/*

ENV PYTHONUNBUFFERED=1 \
    PIP_NO_CACHE_DIR=1 \
    MLFLOW_DISABLE_TELEMETRY=true \
    DVC_NO_ANALYTICS=true

RUN useradd --uid 10001 --create-home unroll && mkdir /app /mlflow && chown 10001:10001 /app /mlflow
USER 10001
WORKDIR /app
ENV PATH=/home/unroll/venv/bin:$PATH

# The CPU build of torch first, from its own index: the default build is several GB larger.
RUN python -m venv /home/unroll/venv \
    && pip install --index-url https://download.pytorch.org/whl/cpu torch==2.13.0

# Dependencies in a layer of their own, which an edit of the code does not invalidate.
COPY --chown=10001:10001 requirements.txt ./
RUN pip install --requirement requirements.txt

COPY --chown=10001:10001 . .
# The image has no git history, which DVC would need otherwise.
RUN pip install --no-deps --editable . && dvc config --local core.no_scm true

CMD ["sh", "-c", "dvc repro && unroll results"]
