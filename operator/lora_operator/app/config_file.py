"""Reads the configuration file. What it may say, and what is wrong with it, says `domain/config_document.py`."""

from pathlib import Path

from lora_operator.domain.config_document import ConfigError, ConfigFile, read_config_text
from lora_operator.domain.policy import Policy

__all__ = ["ConfigFile", "ConfigFileError", "read_policy"]


class ConfigFileError(Exception):
    """The file cannot be used; the text names file, field, value and what to write."""


def read_policy(path: Path) -> Policy:
    """Return the policy of a file. Raises `ConfigFileError`."""
    try:
        return read_config_text(path.read_text()).policy
    except OSError as error:
        raise ConfigFileError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigFileError(f"{path}: cannot be read as YAML or JSON: {error}") from None
    except ConfigError as error:
        raise ConfigFileError(f"{path}: {error}") from None
