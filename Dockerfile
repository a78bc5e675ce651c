# Stage 1: the environment, from the lock. What the network of the building machine needs comes as secrets and leaves
# no trace; both are optional.
FROM docker.io/library/debian:bookworm-slim AS environment
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3 python3-venv \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/loupe
COPY requirements.lock .
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    --mount=type=secret,id=certificates,target=/run/certificates.pem \
    if [ -s /run/certificates.pem ]; then export PIP_CERT=/run/certificates.pem; fi \
 && python3 -m venv .venv \
 && .venv/bin/python -m pip install --no-cache-dir --disable-pip-version-check --require-hashes --only-binary=:all: -r requirements.lock
COPY app app
COPY prompts prompts
RUN .venv/bin/python -m compileall -q app

# Stage 2: what runs. libgomp1 is for the embedded runtime, tini takes in the processes that it leaves behind.
FROM docker.io/library/debian:bookworm-slim
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3 libgomp1 tini ca-certificates \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 10001 --home-dir /data --shell /usr/sbin/nologin --no-create-home loupe \
 && install -d -o loupe -g loupe -m 0700 /data
COPY --from=environment /opt/loupe /opt/loupe
COPY LICENSE /opt/loupe/LICENSE
WORKDIR /opt/loupe
USER loupe

# It listens on all interfaces of the container, so it does not start without LOUPE_TOKEN or a key. Who reaches it by another name
# than localhost adds that name to LOUPE_ALLOWED_HOSTS.
ENV LOUPE_BIND=0.0.0.0 \
    LOUPE_PORT=8501 \
    LOUPE_DATA=/data \
    LOUPE_ALLOWED_HOSTS=localhost,127.0.0.1,[::1] \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
VOLUME /data
EXPOSE 8501
# Asks /healthz of the running Loupe, under an allowed name.
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s CMD [".venv/bin/python", "-m", "app", "health"]
ENTRYPOINT ["tini", "--", "/opt/loupe/.venv/bin/python", "-m", "app"]
CMD ["serve"]
