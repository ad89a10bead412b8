"""Address of the shop, credentials and options: one value, checked once."""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import re
from dataclasses import InitVar, dataclass, field
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from airflow_provider_lightspeed.api.errors import LightspeedConfigurationError
from airflow_provider_lightspeed.api.responses import MAX_BODY

#: Base address of each cluster (vendor documentation).
CLUSTERS = {"us1": "https://api.shoplightspeed.com/", "eu1": "https://api.webshopapp.com/"}

_HOST = re.compile(r"[a-z0-9._:-]+", re.IGNORECASE | re.ASCII)
_LONGEST_TIMEOUT = 3600.0
_MOST_CALLS_PER_SECOND = 1000


def is_loopback(host: str | None) -> bool:
    """Say whether a host is this machine."""
    if host in {None, "localhost"}:
        return host is not None
    try:
        return ipaddress.ip_address(str(host)).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True)
class ClientSettings:
    """All that a client needs to know.

    :param base_url: base address of the cluster, without the language.
    :param key: API key (of an app: the app key).
    :param secret: API secret (of an app: the app secret).
    :param language: two letters, one of the shop's own languages.
    :param filter_timezone: zone (IANA name) in which the shop likely reads date filters: the first to be tried.
    :param quota_reserve: part of each quota window (0.0–0.9) left to other programs.
    :param timeout: seconds to wait for a connection, and for each part of a response. A whole response may take
        ten times as long.
    :param max_wait: longest wait in seconds that sleeps; a longer one raises LightspeedQuotaExhaustedError; ``inf``: always wait.
    :param calls_per_second: most calls in a second (the vendor's staff name 20); 0 for no limit.
    :param allow_http: allow an address that is neither https nor loopback.
    :param app_token: of an app installed in many shops, this shop's token; the password then is
        ``md5(token + app secret)`` (undocumented: what client code relies on).
    :param max_body: most bytes that a response may have.
    :param address_as_given: ``base_url`` as the user wrote it, for errors, if something was added to it.
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
    max_body: int = MAX_BODY
    address_as_given: InitVar[str] = ""

    def __post_init__(self, address_as_given: str) -> None:
        if not self.key or not self.secret:
            raise LightspeedConfigurationError(
                "the API key (login) and the API secret (password) must both be given"
            )
        if any(text != text.strip() for text in (self.key, self.secret)) or ":" in self.key:
            raise LightspeedConfigurationError(
                "the API key or the API secret has a blank before or after it, or the key has a colon: "
                "copy them again from the shop's back office"
            )
        if not re.fullmatch(r"[a-z]{2}", self.language):
            raise LightspeedConfigurationError(
                f"language must be two lower-case letters such as 'en', got {self.language!r}"
            )
        self._check_address(address_as_given or self.base_url)
        self._check_numbers()
        if self.filter_timezone is not None:
            try:
                ZoneInfo(self.filter_timezone)
            except (ZoneInfoNotFoundError, ValueError, OSError):
                raise LightspeedConfigurationError(
                    f"filter_timezone must be an IANA name such as 'Europe/Amsterdam', got {self.filter_timezone!r}"
                ) from None

    def _check_address(self, given: str) -> None:
        # The address is not repeated before it is known to hold no credentials.
        if "@" in self.base_url:
            raise LightspeedConfigurationError(
                "the host must not carry credentials: put them in the login and password of the connection"
            )
        try:
            parts = urlsplit(self.base_url)
            well_formed = parts.port != 0 and _HOST.fullmatch(parts.hostname or "") is not None
        except ValueError:
            well_formed = False
        if not well_formed or parts.scheme not in {"http", "https"} or parts.query or parts.fragment:
            raise LightspeedConfigurationError(
                f"the host must be an address such as 'https://api.webshopapp.com', got {given!r}"
            )
        if not self.base_url.isascii() or not self.base_url.isprintable() or " " in self.base_url:
            raise LightspeedConfigurationError(f"the host has characters that no address has: {given!r}")
        if parts.scheme == "http" and not is_loopback(parts.hostname) and not self.allow_http:
            raise LightspeedConfigurationError(
                f"the host {parts.hostname!r} is plain http, which would send the secret unencrypted; "
                "use https, or set allow_http in the extra if you must"
            )

    def _check_numbers(self) -> None:
        # Written so that NaN fails too.
        if not 0.0 <= self.quota_reserve <= 0.9:
            raise LightspeedConfigurationError(
                f"quota_reserve must be from 0.0 to 0.9, got {self.quota_reserve:g}"
            )
        if not 0 < self.timeout <= _LONGEST_TIMEOUT:
            raise LightspeedConfigurationError(
                f"timeout must be more than 0 and at most {_LONGEST_TIMEOUT:.0f} seconds, got {self.timeout:g}"
            )
        if not self.max_wait >= 0:
            raise LightspeedConfigurationError(f"max_wait must not be negative, got {self.max_wait:g}")
        if self.calls_per_second != 0 and not 1 <= self.calls_per_second <= _MOST_CALLS_PER_SECOND:
            raise LightspeedConfigurationError(
                f"calls_per_second must be from 1 to {_MOST_CALLS_PER_SECOND}, or 0 for no limit, "
                f"got {self.calls_per_second:g}"
            )
        if self.max_body < 1:
            raise LightspeedConfigurationError(f"max_body must be at least 1 byte, got {self.max_body}")

    @property
    def password(self) -> str:
        """What goes into the Authorization header beside the key."""
        if not self.app_token:
            return self.secret
        # The API prescribes MD5; it is no choice of ours.
        return hashlib.md5((self.app_token + self.secret).encode(), usedforsecurity=False).hexdigest()

    @property
    def authorization(self) -> str:
        """The Authorization header."""
        return "Basic " + base64.b64encode(f"{self.key}:{self.password}".encode()).decode()

    @property
    def shop(self) -> str:
        """Hash that identifies the shop, for what is kept between tries. It differs for shops of one cluster, and holds no secret.

        A secret may be replaced; a shop's key, or its token where an app has one key for many shops, stays.
        """
        identity = (self.base_url.rstrip("/"), self.key, self.app_token or "")
        return hashlib.sha256(repr(identity).encode()).hexdigest()[:16]

    @property
    def host(self) -> str:
        """Host of the address, with its cluster, for error messages."""
        cluster = next(
            (name for name, url in CLUSTERS.items() if url.rstrip("/") == self.base_url.rstrip("/")), None
        )
        host = urlsplit(self.base_url).netloc
        return f"{host} (cluster {cluster})" if cluster else host

    def url(self, path: str) -> str:
        """Address of a path below the language."""
        return f"{self.base_url.rstrip('/')}/{self.language}/{path}"
