"""Settings: what a variable may hold, and what is said of one that holds something else."""

from __future__ import annotations

from pathlib import Path

import pytest

from copywatch.errors import SettingsError
from copywatch.settings import ENV_PREFIX, Settings, load_settings


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import os

    for name in [name for name in os.environ if name.startswith(ENV_PREFIX)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("COPYWATCH_ENV_FILE", str(tmp_path / "none.env"))


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("SMTP_PORT", "0"),
        ("SMTP_PORT", "65536"),
        ("SMTP_PORT", "mail"),
        ("SMTP_TLS", "perhaps"),
        ("THRESHOLD", "-0.1"),
        ("THRESHOLD", "1.01"),
        ("THRESHOLD", "nan"),
        ("THRESHOLD", "0,4"),
        ("IDENTICAL_BOUND", "-1"),
        ("IDENTICAL_BOUND", "2"),
        ("IDENTICAL_BOUND", "nan"),
        ("TAG_COVERAGE", "0"),
        ("TAG_COVERAGE", "1.1"),
        ("MAX_IMAGE_BYTES", "0"),
        ("MAX_IMAGE_BYTES", "32MB"),
        ("MAX_IMAGE_PIXELS", "-5"),
        ("CRAWL_CONTACT", "somebody here"),
        ("CRAWL_CONTACT", "a@b.example\r\nX-Forged: 1"),
        ("CRAWL_USER_AGENT", "Copywatch\r\nX-Forged: 1"),
        ("CRAWL_USER_AGENT", ""),
        ("CRAWL_TIMEOUT_SECONDS", "0"),
        ("CRAWL_SITE_SECONDS", "-1"),
        ("SHARD_BYTES", "0"),
        ("SEEN_DAYS", "0"),
        ("SEEN_DAYS", "a year"),
    ],
)
def test_a_value_that_does_not_fit_is_named(monkeypatch: pytest.MonkeyPatch, variable: str, value: str):
    monkeypatch.setenv(f"COPYWATCH_{variable}", value)
    with pytest.raises(SettingsError, match=rf"COPYWATCH_{variable}: .*\.env\.example"):
        load_settings()


def test_every_wrong_variable_is_named_at_once(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COPYWATCH_SMTP_PORT", "x")
    monkeypatch.setenv("COPYWATCH_SEEN_DAYS", "x")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert "COPYWATCH_SMTP_PORT" in str(caught.value)
    assert "COPYWATCH_SEEN_DAYS" in str(caught.value)


def test_a_wrong_value_in_the_file_is_named_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / ".env").write_text("COPYWATCH_SMTP_PORT=mail\n")
    monkeypatch.setenv("COPYWATCH_ENV_FILE", str(tmp_path / ".env"))
    with pytest.raises(SettingsError, match="COPYWATCH_SMTP_PORT"):
        load_settings()


def test_no_password_is_shown(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COPYWATCH_SMTP_PASSWORD", "secret-word")
    monkeypatch.setenv("COPYWATCH_DATABASE_URL", "postgresql://user:secret-word@host/db")
    made = load_settings()
    assert "secret-word" not in repr(made)
    assert made.smtp_password.get_secret_value() == "secret-word"
    monkeypatch.setenv("COPYWATCH_SEEN_DAYS", "0")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert "secret-word" not in str(caught.value)


def test_the_environment_wins_over_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / ".env").write_text("COPYWATCH_SEEN_DAYS=10\nCOPYWATCH_THRESHOLD=0.3\nOTHER=1\n")
    monkeypatch.setenv("COPYWATCH_ENV_FILE", str(tmp_path / ".env"))
    monkeypatch.setenv("COPYWATCH_SEEN_DAYS", "20")
    made = load_settings()
    assert (made.seen_days, made.threshold) == (20, 0.3)


def test_everything_lives_below_the_data_folder_unless_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COPYWATCH_DATA_DIR", "data")
    made = load_settings()
    assert made.warehouse == str(tmp_path / "data" / "warehouse")
    assert made.landing == tmp_path / "data" / "landing"
    assert made.image_store == str(tmp_path / "data" / "images")
    assert made.intake == tmp_path / "data" / "intake"


def test_addresses_lose_their_last_slash(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COPYWATCH_WAREHOUSE_URL", "s3://bucket/lake/")
    monkeypatch.setenv("COPYWATCH_IMAGE_STORE_URL", "s3://bucket/images//")
    made = load_settings()
    assert (made.warehouse, made.image_store) == ("s3://bucket/lake", "s3://bucket/images")


def test_settings_do_not_change_under_anyone():
    with pytest.raises(ValueError, match="frozen"):
        load_settings().seen_days = 3  # type: ignore[misc]


def test_every_setting_is_described():
    assert all(field.description for field in Settings.model_fields.values())


@pytest.mark.parametrize(
    ("given", "contact"),
    [
        ({}, "alerts@copywatch.invalid"),
        ({"MAIL_FROM": "Watch <watch@yours.example>"}, "watch@yours.example"),
        ({"MAIL_FROM": "w@y.example", "CRAWL_CONTACT": " https://yours.example/bot "}, "https://yours.example/bot"),
    ],
)
def test_the_crawler_says_how_to_reach_us(monkeypatch: pytest.MonkeyPatch, given: dict[str, str], contact: str):
    for name, value in given.items():
        monkeypatch.setenv(f"COPYWATCH_{name}", value)
    assert load_settings().crawl_user_agent == f"Copywatch/0.1 (image copyright monitoring; +{contact})"
