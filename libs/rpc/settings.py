"""Settings that services read from their environment."""

from collections.abc import Mapping
from typing import Final

from libs.rpc.tenants import DEFAULT_TENANT, Tenants

_SECRET_BYTES: Final = 32


class SettingError(Exception):
    """An environment variable is missing or has no meaning; the message says what it needs."""


def required(environment: Mapping[str, str], name: str) -> str:
    """Return a setting that has no default.

    Raises:
        SettingError: It is missing.
    """
    value = environment.get(name, "")
    if not value:
        raise SettingError(f"{name} is not set. `touchline up` sets it; in a deployment, set it.")
    return value


def read_tenants(environment: Mapping[str, str]) -> Tenants:
    """Return the tenants that TOUCHLINE_TENANTS names, separated by commas; default `default`.

    Raises:
        SettingError: A name is missing, repeated or malformed.
    """
    names = environment.get("TOUCHLINE_TENANTS", DEFAULT_TENANT).split(",")
    try:
        return Tenants([name.strip() for name in names])
    except ValueError as error:
        raise SettingError(str(error)) from error


def secret(environment: Mapping[str, str], name: str) -> bytes:
    """Return a secret of 32 bytes, given as 64 hexadecimal digits.

    Raises:
        SettingError: It is missing or something else; the message does not repeat it.
    """
    try:
        value = bytes.fromhex(required(environment, name))
    except ValueError:
        value = b""
    if len(value) != _SECRET_BYTES:
        raise SettingError(
            f"{name} must be {2 * _SECRET_BYTES} hexadecimal digits; "
            "make it with `openssl rand -hex 32`, once."
        )
    return value
