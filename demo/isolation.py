"""Keeps proxies and AWS settings of the environment away from servers on this machine."""

from __future__ import annotations

import os


def stay_on_this_machine() -> None:
    """Let no proxy come between this program and its servers, and no AWS set-up lead away from them."""
    for name in [name for name in os.environ if name.upper().startswith("AWS_")]:
        del os.environ[name]
    # Both: programs differ in which of them they read first.
    os.environ.update(dict.fromkeys(("NO_PROXY", "no_proxy"), "*"))
