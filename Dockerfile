# One image for every service of docker-compose.yaml that is ours. Whatever a run needs is fetched here, at build:
# packages, Delta's jars, the tag models, the class-data archive. A running container fetches nothing.
#
#   docker compose build

# The JRE stands in the stage that all others start from: the class-data archive fits only the JVM that made it.
FROM python:3.12-slim-bookworm AS base
# Debian keeps only the newest version of a package: a pinned one could not be installed next month.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends openjdk-17-jre-headless \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 copywatch \
    && useradd --uid 10001 --gid 10001 --home-dir /var/lib/airflow --no-create-home --shell /usr/sbin/nologin copywatch
ENV PATH=/opt/copywatch/.venv/bin:$PATH \
    SPARK_HOME=/opt/copywatch/.venv/lib/python3.12/site-packages/pyspark \
    PYSPARK_PYTHON=/opt/copywatch/.venv/bin/python \
    COPYWATCH_PREPARED_DIR=/opt/copywatch/prepared \
    AIRFLOW_HOME=/var/lib/airflow \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
WORKDIR /opt/copywatch

# The locked packages: this stage is built again only when they change.
FROM base AS packages
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends build-essential \
    && rm -rf /var/lib/apt/lists/*
RUN pip install --no-cache-dir uv==0.13.8
ENV UV_PYTHON_DOWNLOADS=never UV_NO_CACHE=1 VIRTUAL_ENV=/opt/copywatch/.venv
COPY requirements.txt ./
RUN uv venv --seed .venv \
    && uv pip install --compile-bytecode --requirement requirements.txt
COPY pyproject.toml ./
# Editable: the project finds its DAGs, plugins and jobs beside its library, as in a checkout.
RUN mkdir -p include/copywatch crawlers spark_jobs \
    && uv pip install --no-deps --editable .

# Jars, models, archive: built again when the library or the jobs change, since the archive is made by running them.
FROM packages AS prepared
COPY include include
COPY crawlers crawlers
COPY spark_jobs spark_jobs
RUN python -m copywatch.prepare && rm -rf prepared/spark/ivy

FROM base
LABEL org.opencontainers.image.title="Copywatch" \
      org.opencontainers.image.description="Watches web sites for copies of its users' images" \
      org.opencontainers.image.version="0.1.0"
# Volumes take over the owner of the folder that they are first mounted on.
RUN install --directory --owner=copywatch --group=copywatch --mode=0750 \
    /var/lib/airflow /var/log/airflow /var/spark /var/lib/copywatch \
    /var/lib/copywatch/warehouse /var/lib/copywatch/landing /var/lib/copywatch/index /var/lib/copywatch/images \
    /var/lib/copywatch/intake
COPY --from=packages /opt/copywatch/.venv .venv
COPY --from=prepared /opt/copywatch/prepared prepared
COPY . .
USER 10001:10001
CMD ["airflow", "version"]
