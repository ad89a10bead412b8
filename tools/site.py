"""What the site takes from the project: version, repository and edit links; and that it loads nothing from elsewhere."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError

_PROJECT = Path(__file__).parents[1]
_HELP = {"faq.md", "troubleshooting.md"}
_WIDE = {"failures.md"}
_LOADED = re.compile(
    r"""<(?:script|img|iframe|link rel="(?:stylesheet|preload|icon)")[^>]*(?:src|href)="(https?:)?//[^"]*"""
)


def on_config(config: Any) -> Any:
    """Show the version, and link the repository if `[project.urls]` names it."""
    version = re.findall(
        r'^__version__ = "(.+)"$', (_PROJECT / "airflow_provider_lightspeed/__init__.py").read_text(), re.M
    )
    project = tomllib.loads((_PROJECT / "pyproject.toml").read_text())["project"]
    config.copyright = f"airflow-provider-lightspeed {version[0]}"
    if repository := project.get("urls", {}).get("Repository"):
        config.repo_url = repository
        config.edit_uri = "edit/main/docs/"
        config.theme["features"].append("content.action.edit")
    return config


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Return the text unchanged; set what the theme does with the page.

    The search lists first what a reader with a problem needs. A wide table gets the room of the table of contents.
    """
    if page.file.src_uri in _HELP:
        page.meta["search"] = {"boost": 4}
    if page.file.src_uri in _WIDE:
        page.meta["hide"] = ["toc"]
    return markdown


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """Return the page unchanged.

    :raises PluginError: if a reader's browser would load something from elsewhere.
    """
    if found := _LOADED.search(output):
        raise PluginError(f"{page.file.src_uri} loads something from elsewhere: {found.group()}")
    return output
