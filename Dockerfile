# Two images from one file:
#
#   docker build --target server -t tunesmith-server .
#   docker build --target worker -t tunesmith-worker .
#
# The worker image has no web framework and no database driver. For an NVIDIA device run it with
# `--gpus` on a host that has the driver; TVM's wheel brings its own CUDA code generator.

FROM python:3.11-slim AS base
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1

# The project's wheel, built with the setuptools that the lock pins.
FROM base AS wheel
WORKDIR /src
COPY . .
RUN sed -n '/^setuptools==/,/^ *# via/p' requirements.lock > build.lock \
    && pip install --require-hashes -r build.lock \
    && pip wheel --no-deps --no-build-isolation --wheel-dir /wheels .

FROM base AS runtime
RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/tunesmith tunesmith
# Made before a volume is mounted on it, so that the volume is the user's own.
VOLUME /var/lib/tunesmith
WORKDIR /var/lib/tunesmith

FROM runtime AS server
COPY requirements-server.lock /tmp/requirements.lock
RUN pip install --require-hashes -r /tmp/requirements.lock
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    pip install --no-deps --no-index /wheels/*.whl
USER tunesmith
EXPOSE 8700
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8700/healthz', timeout=3)"]
ENTRYPOINT ["tunesmith"]
# Beyond loopback the server wants a token: give its file in TUNESMITH_TOKEN_FILE.
CMD ["serve", "--host", "0.0.0.0", "--port", "8700", "--data-dir", "/var/lib/tunesmith"]

FROM runtime AS worker
COPY requirements-worker.lock /tmp/requirements.lock
RUN pip install --require-hashes -r /tmp/requirements.lock
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    pip install --no-deps --no-index /wheels/*.whl
USER tunesmith
ENTRYPOINT ["tunesmith", "worker"]
CMD ["--help"]
