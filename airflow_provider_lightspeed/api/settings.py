"""Where the shop is, and who asks: one value, checked once."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from airflow_provider_lightspeed.api.errors import LightspeedConfigurationError

#: Base address of each cluster (vendor documentation).
CLUSTERS = {"us1": "https://api.shoplightspeed.com/", "eu1": "https://api.webshopapp.com/"}

_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


@dataclass(frozen=True)
class ClientSettings:
    """All that a client needs to know.

    :param base_url: base address of the cluster, without the language.
    :param key: API key (of an app: the app key).
    :param secret: API secret (of an app: the app secret).
    :param language: two letters, one of the shop's own languages.
    :param filter_timezone: zone (IANA name) in which the shop reads date filters, where known.
    :param quota_reserve: part of each quota window (0.0–0.9) left to other programs.
    :param timeout: seconds to wait for a connection, and for each part of an answer.
    :param max_wait: longest wait in seconds that sleeps; a longer one raises LightspeedQuotaExhausted.
    :param calls_per_second: most calls in a second (the vendor's staff name 20); 0 for no limit.
    :param allow_http: allow an address that is neither https nor loopback.
    :param app_token: of an app installed in many shops, this shop's token; the password then is
        ``md5(token + app secret)`` (undocumented: what client code relies on).
    :param max_body: most bytes that an answer may have.
    :raises LightspeedConfigurationError: for a value out of range.
    """

    base_url: str
    key: str = field(repr=False)
    secret: str = field(repr=False)
    language: str = "en"
    filter_timezone: str | None = None
    quota_reserve: float = 0.0
    timeout: float = 30.0
    max_wait: float = 60.0
    calls_per_second: float = 20
    allow_http: bool = False
    app_token: str | None = field(default=None, repr=False)
    max_body: int = 64 * 1024 * 1024

    def __post_init__(self) -> None:
        if not self.key or not self.secret:
            raise LightspeedConfigurationError(
                "the API key (login) and the API secret (password) must both be given"
            )
        if not re.fullmatch(r"[a-z]{2}", self.language):
            raise LightspeedConfigurationError(
                f"language must be two lower-case letters such as 'en', got {self.language!r}"
            )
        self._check_address()
        self._check_numbers()
        if self.filter_timezone is not None:
            try:
                ZoneInfo(self.filter_timezone)
            except (ZoneInfoNotFoundError, ValueError, OSError):
                raise LightspeedConfigurationError(
                    f"filter_timezone must be an IANA name such as 'Europe/Amsterdam', got {self.filter_timezone!r}"
                ) from None

    def _check_address(self) -> None:
        parts = urlsplit(self.base_url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise LightspeedConfigurationError(f"the host must be an http(s) address, got {self.base_url!r}")
        if parts.username or parts.password:
            raise LightspeedConfigurationError(
                "the host must not carry credentials: put them in the login and password of the connection"
            )
        if parts.scheme == "http" and parts.hostname not in _LOOPBACK and not self.allow_http:
            raise LightspeedConfigurationError(
                f"the host {parts.hostname!r} is plain http, which would send the secret unencrypted; "
                "use https, or set allow_http in the extra if you must"
            )

    def _check_numbers(self) -> None:
        if not 0.0 <= self.quota_reserve <= 0.9:
            raise LightspeedConfigurationError(
                f"quota_reserve must be from 0.0 to 0.9, got {self.quota_reserve}"
            )
        if self.timeout <= 0:
            raise LightspeedConfigurationError(f"timeout must be more than 0 seconds, got {self.timeout}")
        if self.max_wait < 0:
            raise LightspeedConfigurationError(f"max_wait must not be negative, got {self.max_wait}")
        if self.calls_per_second != 0 and self.calls_per_second < 1:
            raise LightspeedConfigurationError(
                f"calls_per_second must be at least 1, or 0 for no limit, got {self.calls_per_second}"
            )

    @property
    def password(self) -> str:
        """What goes into the Authorization header beside the key."""
        if self.app_token is None:
            return self.secret
        # The API prescribes MD5; it is no choice of ours.
        return hashlib.md5((self.app_token + self.secret).encode(), usedforsecurity=False).hexdigest()

    @property
    def authorization(self) -> str:
        """The Authorization header."""
        return "Basic " + base64.b64encode(f"{self.key}:{self.password}".encode()).decode()

    def url(self, path: str) -> str:
        """Address of a path below the language."""
        return f"{self.base_url.rstrip('/')}/{self.language}/{path}"
