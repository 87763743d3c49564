"""docker-compose.yaml against the Compose specification and against what we promise of a deployment."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from compose_file import (
    COMPOSE_FILE,
    OWN_IMAGE,
    PROJECT,
    MissingVariable,
    Use,
    documented_variables,
    environment_of,
    load,
    one_shot,
    raw,
    uses,
)
from ruamel.yaml import YAML

RAW = raw()
SERVICES: dict[str, dict[str, Any]] = RAW["services"]
OURS = [name for name, service in SERVICES.items() if service["image"].startswith(OWN_IMAGE)]
USES = sorted(set(uses(COMPOSE_FILE.read_text())), key=lambda use: (use.name, use.word))
REQUIRED = sorted({use.name for use in USES if use.required})
_SECRET = re.compile(r"PASSWORD|SECRET|KEY|TOKEN")


def complete() -> dict[str, str]:
    """Variables that are enough to start."""
    return {name: f"value-of-{name.lower()}" for name in REQUIRED}


def check_schema(file: Path) -> None:
    pytest.importorskip("check_jsonschema", reason="it carries the specification; install requirements-dev.txt")
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_file_follows_the_specification() -> None:
    check_schema(COMPOSE_FILE)


def test_file_follows_the_specification_with_its_variables_filled_in(tmp_path: Path) -> None:
    filled = load({**complete(), "SPARK_WORKER_REPLICAS": "3"})
    with (tmp_path / "docker-compose.yaml").open("w") as file:
        YAML().dump(filled, file)
    check_schema(tmp_path / "docker-compose.yaml")


def test_the_services_are_there() -> None:
    assert set(SERVICES) == {
        "postgres", "airflow-init", "airflow-api-server", "airflow-scheduler", "airflow-dag-processor",
        "airflow-triggerer", "spark-master", "spark-worker", "portal", "mail",
    }  # fmt: skip
    assert [name for name, service in SERVICES.items() if service.get("profiles")] == ["mail"]
    assert [name for name, service in SERVICES.items() if one_shot(service)] == ["airflow-init"]


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_keeps_the_rules(name: str) -> None:
    service = SERVICES[name]
    assert "no-new-privileges:true" in service["security_opt"]
    assert service["read_only"] is True
    assert service["logging"]["options"]["max-size"], "a log without a bound fills the disk"
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory"}
    assert not {"privileged", "cap_add", "network_mode", "pid", "container_name"} & set(service)
    if not one_shot(service):
        assert service["restart"] == "unless-stopped"
        check = service["healthcheck"]
        assert check["test"][0] == "CMD"
        assert {"interval", "timeout", "retries", "start_period"} <= set(check)


@pytest.mark.parametrize("name", [name for name in SERVICES if name != "postgres"])
def test_services_run_without_rights(name: str) -> None:
    user, _, group = SERVICES[name]["user"].partition(":")
    assert int(user) > 0
    assert int(group) > 0
    assert SERVICES[name]["cap_drop"] == ["ALL"]


@pytest.mark.parametrize("name", SERVICES)
def test_images_are_pinned(name: str) -> None:
    image = load(complete())["services"][name]["image"]
    repository, _, tag = image.partition(":")
    assert repository
    assert re.search(r"\d", tag), f"{image} names no version"


def test_our_image_has_the_projects_version_and_is_built_once() -> None:
    version = re.search(r'^version = "(.+)"', (PROJECT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version
    assert load(complete())["services"]["portal"]["image"] == f"copywatch:{version[1]}"
    assert [name for name in OURS if "build" in SERVICES[name]] == ["airflow-init"]
    assert len(OURS) == len(SERVICES) - 2


@pytest.mark.parametrize("use", [use for use in USES if _SECRET.search(use.name)], ids=lambda use: use.name)
def test_no_secret_has_a_default(use: Use) -> None:
    # These two may be empty, which nobody can log in with: no login at the mail server, no token for the check API.
    assert use.required or (use.name in {"COPYWATCH_SMTP_PASSWORD", "COPYWATCH_CHECK_TOKENS"} and not use.word)


@pytest.mark.parametrize("name", REQUIRED)
@pytest.mark.parametrize("given", [{}, {"": ""}], ids=["unset", "empty"])
def test_a_missing_variable_says_what_is_missing_and_what_to_do(name: str, given: dict[str, str]) -> None:
    variables = complete()
    del variables[name]
    if given:
        variables[name] = ""
    with pytest.raises(MissingVariable, match=f"^{name} is not set; (make one with: openssl|name|give) .+"):
        load(variables)


def test_each_variable_means_one_thing() -> None:
    names = [use.name for use in USES]
    assert len(names) == len(set(names)), "one variable with two defaults, or two sentences"


def test_every_variable_is_documented_with_its_default() -> None:
    documented = documented_variables()
    ours = {use.name: "" if use.required else use.word for use in USES if not use.name.startswith("COPYWATCH_")}
    assert documented == ours


def test_the_example_of_the_whole_has_every_variable() -> None:
    example = (PROJECT / ".env.example").read_text()
    missing = {use.name for use in USES if not re.search(rf"^(# )?{use.name}=", example, re.MULTILINE)}
    assert missing == set(), "write it anew: make env-example"


def test_every_setting_of_ours_exists() -> None:
    from copywatch.settings import Settings

    known = {f"COPYWATCH_{name}".upper() for name in Settings.model_fields}
    named = {name for service in SERVICES.values() for name in environment_of(service) if name.startswith("COPYWATCH_")}
    named |= {use.name for use in USES if use.name.startswith("COPYWATCH_")}
    assert named <= known


def test_every_option_of_airflow_exists() -> None:
    from airflow.configuration import conf

    conf.load_providers_configuration()
    unknown = [
        name
        for name in environment_of(SERVICES["airflow-scheduler"])
        if name.startswith("AIRFLOW__")
        and not conf.configuration_description.get(name.split("__")[1].lower(), {})
        .get("options", {})
        .get(name.split("__")[2].lower())
    ]
    assert unknown == []


def test_ports_are_bound_to_loopback_unless_told_otherwise() -> None:
    published = [port for service in load(complete())["services"].values() for port in service.get("ports", ())]
    assert len(published) == 4
    assert all(port.startswith("127.0.0.1:") for port in published)
    everywhere = load({**complete(), "DEPLOY_BIND_ADDRESS": "0.0.0.0"})["services"]
    open_to_all = {name for name, one in everywhere.items() if str(one.get("ports", "")).find("0.0.0.0") > 0}
    assert open_to_all == {"airflow-api-server", "portal"}


def test_everything_starts_in_order() -> None:
    for name, service in SERVICES.items():
        for other, how in service.get("depends_on", {}).items():
            wanted = "service_completed_successfully" if one_shot(SERVICES[other]) else "service_healthy"
            assert how == {"condition": wanted}, f"{name} on {other}"
    waits = {name for name, service in SERVICES.items() if "airflow-init" in service.get("depends_on", {})}
    assert waits == set(OURS) - {"airflow-init", "spark-master"}


def test_the_data_is_at_one_path_for_all() -> None:
    targets: dict[str, set[str]] = {}
    for service in SERVICES.values():
        for volume in service.get("volumes", ()):
            if isinstance(volume, str) and not volume.startswith("."):
                source, target = volume.split(":")[:2]
                targets.setdefault(source, set()).add(target)
    assert set(targets) == set(RAW["volumes"])
    assert {source: len(found) for source, found in targets.items()} == dict.fromkeys(targets, 1)
    data = {f"/var/lib/copywatch/{folder}" for folder in ("warehouse", "landing", "index", "images", "intake")}
    for name in set(OURS) - {"spark-master"}:
        mounted = {volume.split(":")[1] for volume in SERVICES[name]["volumes"] if isinstance(volume, str)}
        assert data <= mounted, name
        assert environment_of(SERVICES[name])["COPYWATCH_DATA_DIR"] == "/var/lib/copywatch"


def test_nobody_but_the_scheduler_reaches_spark_and_the_database_reaches_nobody() -> None:
    def on(network: str) -> set[str]:
        return {name for name, service in SERVICES.items() if network in service.get("networks", ["default"])}

    assert on("spark") == {"spark-master", "spark-worker", "airflow-scheduler"}
    # The master listens on the address that its name stands for: with two networks that would be either.
    assert SERVICES["spark-master"]["networks"] == ["spark"]
    assert SERVICES["postgres"]["networks"] == ["database"]
    assert RAW["networks"]["database"] == {"internal": True}


def test_secrets_go_only_where_they_are_used() -> None:
    holders = {
        secret: {name for name, one in load(complete())["services"].items() if f"value-of-{secret}" in json.dumps(one)}
        for secret in ("airflow_admin_password", "copywatch_portal_secret", "postgres_password", "airflow_fernet_key")
    }
    airflow = {name for name in OURS if name.startswith("airflow-")}
    assert holders == {
        "airflow_admin_password": {"airflow-init"},
        "copywatch_portal_secret": {"portal"},
        "postgres_password": {"postgres"},
        "airflow_fernet_key": airflow,
    }
    workers = json.dumps(load(complete())["services"]["spark-worker"])
    assert "value-of-" not in workers, "jobs need no secret"


def test_the_spark_connection_is_what_airflow_reads() -> None:
    from airflow.sdk import Connection

    environment = environment_of(load({**complete(), "SPARK_EXECUTOR_MEMORY": "3g"})["services"]["airflow-scheduler"])
    connection = Connection.from_json(environment["AIRFLOW_CONN_SPARK_DEFAULT"])
    assert (connection.conn_type, connection.host, connection.port) == ("spark", "spark://spark-master", 7077)
    conf = connection.extra_dejson["conf"]
    assert conf["spark.driver.host"] == "airflow-scheduler"
    assert conf["spark.executor.memory"] == "3g"
