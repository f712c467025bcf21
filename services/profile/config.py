"""The settings of the profile service, from its environment."""

from collections.abc import Mapping

from libs.projection.config import FoldingConfig

Config = FoldingConfig


def read_config(environment: Mapping[str, str]) -> Config:
    """Return the settings.

    Raises:
        SettingError: One is missing or has no meaning; the message names it and says what it needs.
    """
    return Config.read(environment, "127.0.0.1:7420")
