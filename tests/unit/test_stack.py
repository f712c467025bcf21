"""What each service of a laptop is told, and what it is not."""

from pathlib import Path

from libs.cli.stack import SERVICES, environment_of
from libs.embedded import Endpoints, load_secrets

ENDPOINTS = Endpoints(
    database_url="postgresql://u:p@127.0.0.1:1/postgres",
    nats_url="nats://store@127.0.0.1:2",
    nats_service_url="nats://service@127.0.0.1:2",
)
INHERITED = {
    "PATH": "/bin",
    "TOUCHLINE_SMTP_URL": "smtp://mail:25",
    "TOUCHLINE_MAIL_FROM": "us@example.com",
    "TOUCHLINE_MASTER_KEY": "inherited",
    "TOUCHLINE_TENANTS": "default,acme",
}


def told(home: Path) -> dict[str, dict[str, str]]:
    secrets = load_secrets(home)
    return {
        one.name: environment_of(one, f"127.0.0.1:{number}", ENDPOINTS, secrets, INHERITED)
        for number, one in enumerate(SERVICES)
    }


def test_every_service_has_a_database_an_address_and_a_variable_of_its_own() -> None:
    for attribute in ("name", "database", "listen", "variable"):
        assert len({getattr(one, attribute) for one in SERVICES}) == len(SERVICES) == 4


def test_each_service_is_told_its_own_database_and_address(tmp_path: Path) -> None:
    for number, one in enumerate(SERVICES):
        variables = told(tmp_path)[one.name]
        assert variables["TOUCHLINE_DATABASE_URL"].endswith(f"/{one.database}")
        assert variables["TOUCHLINE_LISTEN"] == f"127.0.0.1:{number}"
        assert variables["TOUCHLINE_TENANTS"] == "default,acme"
        assert variables["PATH"] == "/bin"


def test_the_master_key_and_the_feed_are_ingestions_alone(tmp_path: Path) -> None:
    secrets = load_secrets(tmp_path)
    for name, variables in told(tmp_path).items():
        owns = name == "ingestion"
        assert variables.get("TOUCHLINE_MASTER_KEY") == (secrets.master_key if owns else None)
        assert ("store@" in variables["TOUCHLINE_NATS_URL"]) is owns


def test_only_notification_is_told_how_to_send(tmp_path: Path) -> None:
    secrets = load_secrets(tmp_path)
    for name, variables in told(tmp_path).items():
        sends = name == "notification"
        assert ("TOUCHLINE_SMTP_URL" in variables) is sends
        assert ("TOUCHLINE_MAIL_FROM" in variables) is sends
        signing = variables.get("TOUCHLINE_WEBHOOK_SECRET")
        assert signing == (secrets.webhook_secret if sends else None)
