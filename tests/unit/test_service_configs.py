"""The settings of every service, and that printing them shows no secret."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from libs.rpc.settings import SettingError
from services.engagement.config import read_config as read_engagement
from services.ingestion.config import read_config as read_ingestion
from services.notification.config import read_config as read_notification
from services.profile.config import read_config as read_profile

Read = Callable[[Mapping[str, str]], Any]

SECRETS = {
    "TOUCHLINE_IDENTITY_SECRET": "1a" * 32,
    "TOUCHLINE_MASTER_KEY": "2b" * 32,
    "TOUCHLINE_WEBHOOK_SECRET": "3c" * 32,
}
ENVIRONMENT = {
    "TOUCHLINE_DATABASE_URL": "postgresql://touchline:hush-db@127.0.0.1/one",
    "TOUCHLINE_NATS_URL": "nats://service:hush-nats@127.0.0.1:4222",
    **SECRETS,
}
SERVICES = {
    "ingestion": (read_ingestion, "127.0.0.1:7410"),
    "profile": (read_profile, "127.0.0.1:7420"),
    "engagement": (read_engagement, "127.0.0.1:7430"),
    "notification": (read_notification, "127.0.0.1:7440"),
}


@pytest.mark.parametrize(("read", "listen"), SERVICES.values(), ids=SERVICES)
def test_each_service_listens_where_it_is_told_or_at_a_port_of_its_own(
    read: Read, listen: str
) -> None:
    assert read(ENVIRONMENT).listen == listen
    assert read(ENVIRONMENT | {"TOUCHLINE_LISTEN": "0.0.0.0:1"}).listen == "0.0.0.0:1"


@pytest.mark.parametrize(("read", "_listen"), SERVICES.values(), ids=SERVICES)
def test_each_tenant_has_identity_keys_by_its_place_in_the_settings(
    read: Read, _listen: str
) -> None:
    config = read(ENVIRONMENT | {"TOUCHLINE_TENANTS": "default,acme"})
    assert list(config.identity_keys) == [one.number for one in config.tenants.all] == [1, 2]


@pytest.mark.parametrize(("read", "_listen"), SERVICES.values(), ids=SERVICES)
def test_settings_that_are_printed_show_no_secret(read: Read, _listen: str) -> None:
    shown = repr(read(ENVIRONMENT))
    assert "127.0.0.1:74" in shown
    for value in SECRETS.values():
        assert value not in shown
        assert repr(bytes.fromhex(value))[2:-1] not in shown
    assert "hush" not in shown


@pytest.mark.parametrize("name", ENVIRONMENT)
@pytest.mark.parametrize(("read", "_listen"), SERVICES.values(), ids=SERVICES)
def test_a_setting_that_is_missing_is_named(read: Read, _listen: str, name: str) -> None:
    without = {key: value for key, value in ENVIRONMENT.items() if key != name}
    only = {"TOUCHLINE_MASTER_KEY": read_ingestion, "TOUCHLINE_WEBHOOK_SECRET": read_notification}
    if only.get(name, read) is not read:
        assert read(without)
    else:
        with pytest.raises(SettingError, match=f"^{name}"):
            read(without)
