# syntax=docker/dockerfile:1
# The gateway: the HTTP API of photo uploads for browsers and phones.
# Build from the top of the repository:
#   docker build --file deploy/docker/gateway.Dockerfile --tag sluice-gateway .

FROM python:3.11-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
RUN python -m venv /opt/sluice
# The lock alone first: this layer is built anew only when a dependency changes.
COPY requirements/gateway.txt requirements/gateway.txt
RUN /opt/sluice/bin/pip install --no-deps --require-hashes --requirement requirements/gateway.txt \
 && /opt/sluice/bin/pip check
COPY libs/protos libs/protos
COPY libs/core libs/core
COPY libs/backends libs/backends
COPY libs/common libs/common
COPY services/gateway services/gateway
RUN /opt/sluice/bin/pip install --no-deps --no-build-isolation \
      ./libs/protos ./libs/core ./libs/backends ./libs/common ./services/gateway
COPY deploy/docker/readiness.py /opt/sluice/readiness.py

FROM python:3.11-slim-bookworm
RUN groupadd --gid 10001 sluice \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent \
      --shell /usr/sbin/nologin sluice \
 && install --directory --owner sluice --group sluice --mode 0700 /keys
COPY --from=build /opt/sluice /opt/sluice
# Bytecode was made by pip; the file system may be read-only.
ENV PATH=/opt/sluice/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    SLUICE_LOG_FORMAT=json \
    SLUICE_GATEWAY_ADDRESS=0.0.0.0:8080 \
    SLUICE_METRICS_ADDRESS=0.0.0.0:9464 \
    SLUICE_GATEWAY__KEYS_FILE=/keys/gateway.json
USER 10001:10001
# All replicas share it.
VOLUME /keys
EXPOSE 8080 9464
HEALTHCHECK --interval=5s --timeout=5s --start-period=30s --retries=3 \
  CMD ["python", "/opt/sluice/readiness.py"]
ENTRYPOINT ["sluice-gateway"]
