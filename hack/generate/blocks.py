"""YAML with long texts as blocks: scripts and patches within a document that people read."""

from typing import Any

import yaml


class _Dumper(yaml.SafeDumper):
    """Writes a text of several lines as a block, and every value out."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write every value out."""
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _represent_text)


def dump(*documents: dict[str, Any]) -> str:
    """Return YAML documents, keys in the order in which they were built."""
    # A line that is folded could not be written as a block.
    return yaml.dump_all(documents, Dumper=_Dumper, sort_keys=False, width=10_000)
