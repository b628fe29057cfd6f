# The image of control, with the built console. Built from the top of the repository; README.md says how.
ARG PYTHON=python:3.11-slim-bookworm
ARG NODE=node:20-bookworm-slim

FROM ${NODE} AS console
WORKDIR /src/console
COPY console/package.json console/package-lock.json console/.npmrc ./
RUN npm ci --no-audit --no-fund
COPY console ./
RUN npm run build

FROM ${PYTHON} AS build
WORKDIR /src
RUN python -m venv /opt/build && python -m venv --without-pip /opt/tunegate
COPY requirements/uv.txt requirements/control.lock requirements/
RUN /opt/build/bin/pip install --no-cache-dir --require-hashes -r requirements/uv.txt \
    && /opt/build/bin/uv pip install --no-cache --python /opt/tunegate/bin/python --require-hashes --no-deps \
      --only-binary :all: --compile-bytecode -r requirements/control.lock
COPY pyproject.toml README.md LICENSE ./
COPY gateway gateway
COPY control control
COPY trainer trainer
RUN /opt/build/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheels . \
    && /opt/build/bin/uv pip install --no-cache --python /opt/tunegate/bin/python --no-deps --compile-bytecode \
      /wheels/*.whl

FROM ${PYTHON}
RUN useradd --uid 1000 --gid 100 --no-create-home --home-dir /tmp tunegate \
    && install -d -o 1000 -g 100 /var/lib/tunegate
COPY --from=build /opt/tunegate /opt/tunegate
COPY --from=console /src/console/dist /usr/share/tunegate/console
ENV PATH=/opt/tunegate/bin:${PATH} PYTHONUNBUFFERED=1 TUNEGATE_CONSOLE_STATIC_DIR=/usr/share/tunegate/console
USER 1000:100
WORKDIR /var/lib/tunegate
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=4s --start-period=60s --retries=3 \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/healthz', timeout=3)"]
ENTRYPOINT ["tunegate"]
CMD ["control", "--config", "/etc/tunegate/config.toml"]
