# syntax=docker/dockerfile:1
# Sakiyomi in a container, as an ordinary user: train, drive the arm off-screen, serve a page. compose.yaml starts these
# together.
#
#   docker build -t sakiyomi:cpu .
#   docker build -t sakiyomi:cu130 --build-arg DEVICE=cu130 --build-arg PACKAGES="gcc libc6-dev" .     NVIDIA GPU
#   docker run --rm -it -v data:/work/data -v runs:/work/runs sakiyomi:cpu train pick-small
#
# docker stop is Ctrl-C: a training finishes its step and saves, and goes on with --resume.

FROM python:3.11.14-slim-bookworm AS base
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1

# Other projects' code, without a line of ours: an edit of ours brings none of it anew.
FROM base AS libraries
# cpu, or a CUDA version as PyTorch names it (pytorch.org lists them): the CUDA libraries come in Python packages, so
# the base image is the same and only the driver is the host's.
ARG DEVICE=cpu
# PyTorch's own packages, because those of the Python index always bring CUDA, 5 GB of it.
ARG TORCH_INDEX=https://download.pytorch.org/whl/${DEVICE}
ARG TORCH=torch>=2.11
# Of pyproject.toml. Others: audio, text, perception, bair, rerun.
ARG EXTRAS=digits,far,formats,serve
# The torch that came is written down and held to below: no other package may exchange it for another build.
# hadolint ignore=DL3013
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m venv /opt/venv \
    && pip install --index-url "${TORCH_INDEX}" "${TORCH}" \
    && DEVICE="${DEVICE}" python -c "import os, torch; device, cuda = os.environ['DEVICE'], torch.version.cuda; \
assert (device == 'cpu') == (cuda is None), f'DEVICE is {device}, but this torch is for CUDA {cuda}'; \
print(f'torch=={torch.__version__}')" > /opt/torch.txt
WORKDIR /source
COPY pyproject.toml ./
RUN --mount=type=cache,target=/root/.cache/pip \
    mkdir sakiyomi && touch README.md sakiyomi/__init__.py \
    && pip install --constraint /opt/torch.txt ".[${EXTRAS}]" \
    && pip uninstall --yes sakiyomi

FROM base AS wheel
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY sakiyomi sakiyomi
RUN --mount=type=cache,target=/root/.cache/pip pip wheel --no-deps --wheel-dir /wheels .

FROM base AS installed
# More of Debian's packages, by spaces; torch.compile needs "gcc libc6-dev" for a GPU and g++ for a CPU.
ARG PACKAGES=""
# EGL, OpenGL and Mesa draw MuJoCo's pictures without a screen. Versions are the base image's release's: Debian keeps no others.
# hadolint ignore=DL3008,SC2086
RUN apt-get update \
    && apt-get install -y --no-install-recommends libegl1 libgl1-mesa-dri libopengl0 ${PACKAGES} \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --create-home sakiyomi \
    && install -d -o sakiyomi -g sakiyomi /work /work/data /work/runs
COPY --from=libraries /opt/venv /opt/venv
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels pip install --no-cache-dir --no-deps /wheels/*.whl
ENV MUJOCO_GL=egl MPLCONFIGDIR=/tmp/matplotlib SAKIYOMI_CACHE=/work/data/.cache
WORKDIR /work
VOLUME ["/work/data", "/work/runs"]
USER 1000:1000
STOPSIGNAL SIGINT
ENTRYPOINT ["sakiyomi"]

# The page: docker build --target page -t sakiyomi-page . && docker run --rm -v runs:/work/runs \
#   -p 127.0.0.1:8000:8000 sakiyomi-page serve digits --host 0.0.0.0
# In the container it listens on every address, since nothing else reaches in; who may reach it from outside is said
# where the port is published.
FROM installed AS page
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/', timeout=4)"]
CMD ["serve", "digits", "--host", "0.0.0.0"]

FROM installed AS sakiyomi
CMD ["--help"]
