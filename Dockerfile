# Taximeter's image: the package and what it needs, from the hash-pinned lock file, and nothing to
# build with. It runs as nobody in particular, and needs to write to /var/lib/taximeter alone.
#
#   docker build -t taximeter .
#   docker run --read-only -p 127.0.0.1:8400:8400 -v taximeter:/var/lib/taximeter taximeter

FROM python:3.13.7-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_INPUT=1
RUN python -m venv /opt/taximeter
WORKDIR /source
COPY requirements/run.lock requirements/run.lock
RUN /opt/taximeter/bin/pip install --no-deps --require-hashes --only-binary :all: \
      --requirement requirements/run.lock
COPY pyproject.toml README.md LICENSE CHANGELOG.md ./
COPY proxy proxy
RUN /opt/taximeter/bin/pip install --no-index --no-deps --no-build-isolation . \
 && /opt/taximeter/bin/pip uninstall --yes hatchling pip \
 && /opt/taximeter/bin/python -m compileall -q /opt/taximeter/lib

FROM python:3.13.7-slim-bookworm
RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin taximeter \
 && install --directory --owner taximeter --group taximeter --mode 0700 /var/lib/taximeter
COPY --from=build /opt/taximeter /opt/taximeter
COPY deploy/taximeter/entrypoint /usr/local/bin/taximeter-entrypoint
COPY deploy/taximeter/alone.yaml /etc/taximeter/taximeter.yaml
ENV PATH=/opt/taximeter/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    TAXIMETER_CONFIG=/etc/taximeter/taximeter.yaml
USER 10001:10001
VOLUME /var/lib/taximeter
EXPOSE 8400 8401
# Whether this process lives. Whether it takes calls is /readyz, for whoever sends it some.
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
  CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8401/healthz', timeout=2)"]
# SIGTERM drains: streams under way may end. Give them time (`docker stop --time`).
STOPSIGNAL SIGTERM
ENTRYPOINT ["taximeter-entrypoint"]
CMD ["taximeter", "serve"]
