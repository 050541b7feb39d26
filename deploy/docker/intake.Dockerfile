# syntax=docker/dockerfile:1
# The intake: takes chunks and acknowledges them.
# Build from the top of the repository:
#   docker build --file deploy/docker/intake.Dockerfile --tag sluice-intake .

FROM python:3.11-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
RUN python -m venv /opt/sluice
# The lock alone first: this layer is built anew only when a dependency changes.
COPY requirements/intake.txt requirements/intake.txt
RUN /opt/sluice/bin/pip install --no-deps --require-hashes --requirement requirements/intake.txt \
 && /opt/sluice/bin/pip check
COPY libs/protos libs/protos
COPY libs/core libs/core
COPY libs/backends libs/backends
COPY libs/common libs/common
COPY services/intake services/intake
RUN /opt/sluice/bin/pip install --no-deps --no-build-isolation \
      ./libs/protos ./libs/core ./libs/backends ./libs/common ./services/intake
COPY deploy/docker/healthcheck.py /opt/sluice/healthcheck.py
COPY deploy/docker/readiness.py /opt/sluice/readiness.py

FROM python:3.11-slim-bookworm
RUN groupadd --gid 10001 sluice \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent \
      --shell /usr/sbin/nologin sluice
COPY --from=build /opt/sluice /opt/sluice
# Bytecode was made by pip; the file system may be read-only.
ENV PATH=/opt/sluice/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    SLUICE_LOG_FORMAT=json \
    SLUICE_INTAKE_ADDRESS=0.0.0.0:50051 \
    SLUICE_METRICS_ADDRESS=0.0.0.0:9464
USER 10001:10001
EXPOSE 50051 9464
HEALTHCHECK --interval=5s --timeout=5s --start-period=20s --retries=3 \
  CMD ["python", "/opt/sluice/healthcheck.py", "SLUICE_INTAKE_ADDRESS"]
ENTRYPOINT ["sluice-intake"]
