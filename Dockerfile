# MedVL for NVIDIA machines, x86-64 and arm64: the API, and Dagster's services from the same image (compose.yaml).
# Built from the repository's root: docker build -t medvl .
# The tag is pinned; where your registry shows a digest, add it. torch brings CUDA's libraries along as wheels.
FROM nvidia/cuda:13.0.2-runtime-ubuntu24.04

SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 medvl \
    && useradd --uid 10001 --gid medvl --create-home --shell /usr/sbin/nologin medvl

ENV PATH=/opt/medvl/bin:$PATH \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PYTHONUNBUFFERED=1

# Dependencies first: they change seldom, and code changes then build nothing again. The versions are those of the machine's own file.
WORKDIR /app
COPY pyproject.toml LICENSE README.md ./
COPY constraints constraints
RUN python3 -m venv /opt/medvl \
    && python -m pip install -c "constraints/linux-$(uname -m).txt" '.[export,postgres]'
COPY medvl_lib medvl_lib
COPY medvl_assets medvl_assets
COPY workspace.yaml dagster_project.toml ./
RUN python -m pip install --no-deps --editable . \
    && mkdir -p /app/data /models /locks \
    && chown medvl:medvl /app/data /models /locks

# What is read and made lies in volumes; keys and tokens come from the environment when a container starts, never from here.
# A container has a /tmp of its own: the lock of the GPU lies where all of a machine's containers can mount the same volume.
ENV HF_HOME=/models \
    MEDVL_DEVICE_LOCKS=/locks \
    MEDVL_SETTINGS=/app/dagster_project.toml
VOLUME ["/app/data", "/models", "/locks"]
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=10m --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
# Beyond the loopback interface the server asks for MEDVL_API_KEY (16 characters or more), and ends without one.
CMD ["medvl", "serve", "documents", "--host", "0.0.0.0", "--port", "8000"]
