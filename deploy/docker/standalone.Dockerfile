# syntax=docker/dockerfile:1
# Everything in one process; without further settings it keeps its data in the volume /data.
# Build from the top of the repository:
#   docker build --file deploy/docker/standalone.Dockerfile --tag sluice-standalone .

FROM python:3.11-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
RUN python -m venv /opt/sluice
# The lock alone first: this layer is built anew only when a dependency changes.
COPY requirements/run.txt requirements/run.txt
RUN /opt/sluice/bin/pip install --no-deps --require-hashes --requirement requirements/run.txt \
 && /opt/sluice/bin/pip check
COPY libs/protos libs/protos
COPY libs/core libs/core
COPY libs/backends libs/backends
COPY libs/common libs/common
COPY libs/client libs/client
COPY services/intake services/intake
COPY services/repository services/repository
COPY services/processor services/processor
COPY services/gateway services/gateway
COPY services/standalone services/standalone
RUN /opt/sluice/bin/pip install --no-deps --no-build-isolation \
      ./libs/protos ./libs/core ./libs/backends ./libs/common ./libs/client ./services/intake \
      ./services/repository ./services/processor ./services/gateway ./services/standalone
COPY deploy/docker/healthcheck.py /opt/sluice/healthcheck.py
COPY deploy/docker/readiness.py /opt/sluice/readiness.py

FROM python:3.11-slim-bookworm
RUN groupadd --gid 10001 sluice \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent \
      --shell /usr/sbin/nologin sluice \
 && install --directory --owner sluice --group sluice /data
COPY --from=build /opt/sluice /opt/sluice
# Bytecode was made by pip; the file system may be read-only. The command works in here as well, and
# keeps its journals in the volume: this user has no home.
ENV PATH=/opt/sluice/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    SLUICE_LOG_FORMAT=json \
    SLUICE_INTAKE_ADDRESS=0.0.0.0:50051 \
    SLUICE_REPOSITORY_ADDRESS=0.0.0.0:50052 \
    SLUICE_METRICS_ADDRESS=0.0.0.0:9464 \
    SLUICE_DATA_DIR=/data \
    SLUICE_STATE_DIR=/data/client
USER 10001:10001
VOLUME /data
EXPOSE 50051 50052 9464
HEALTHCHECK --interval=5s --timeout=5s --start-period=20s --retries=3 \
  CMD ["python", "/opt/sluice/healthcheck.py", "SLUICE_INTAKE_ADDRESS"]
ENTRYPOINT ["sluice", "serve"]
