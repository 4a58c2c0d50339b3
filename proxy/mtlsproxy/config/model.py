"""The whole configuration file as one frozen model (reference: config/schema.json).

Attribute names are the YAML keys. Durations are seconds (float), sizes bytes (int), file names absolute `Path`s,
networks `ipaddress` networks. What holds between parts (names that dangle, duplicates) is checked in `references.py`,
which sees the file even where this model refuses it.
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag

from mtlsproxy.config.base import Many, Section, Some
from mtlsproxy.config.listener import (
    ClientAuth,
    Limits,
    Listener,
    ListenerTimeouts,
    ListenerTls,
    ServerCertificate,
)
from mtlsproxy.config.matchers import DenyEntry, Match
from mtlsproxy.config.route import Route, RouteTimeouts
from mtlsproxy.config.scalars import Bind, FileName, Name, Text
from mtlsproxy.config.service import Admin, Identity, Logging, Shutdown
from mtlsproxy.config.truststore import (
    EXTENDED_KEY_USAGES,
    CrlOptions,
    ExtendedKeyUsage,
    FetchOptions,
    Keys,
    OcspOptions,
    Revocation,
    Truststore,
)
from mtlsproxy.config.upstream import CircuitBreaker, HealthCheck, Upstream, UpstreamServer, UpstreamTls

__all__ = [
    "EXTENDED_KEY_USAGES",
    "Admin",
    "Bind",
    "CircuitBreaker",
    "ClientAuth",
    "Config",
    "CrlOptions",
    "DenyEntry",
    "ExtendedKeyUsage",
    "FetchOptions",
    "HealthCheck",
    "Identity",
    "Keys",
    "Limits",
    "Listener",
    "ListenerTimeouts",
    "ListenerTls",
    "Logging",
    "Match",
    "OcspOptions",
    "Revocation",
    "Route",
    "RouteTimeouts",
    "ServerCertificate",
    "Shutdown",
    "Truststore",
    "Upstream",
    "UpstreamServer",
    "UpstreamTls",
]


def _with_default(identities: dict[str, Identity]) -> dict[str, Identity]:
    return identities if "default" in identities else {"default": Identity(), **identities}


def _workers_kind(value: object) -> str:
    return "auto" if isinstance(value, str) and not value.isdecimal() else "number"


class Config(Section):
    """The configuration file."""

    version: Literal[1]
    """Version of the file's format."""
    listeners: Some[Listener]
    truststores: dict[Name, Truststore]
    """By name."""
    routes: Many[Route]
    """The first match wins; no match answers 404."""
    upstreams: dict[Name, Upstream] = Field(default_factory=dict)
    """By name."""
    identities: Annotated[
        dict[Name, Identity], AfterValidator(_with_default), Field(default_factory=dict, validate_default=True)
    ]
    """By name; `default` exists always."""
    admin: Admin = Field(default_factory=Admin)
    logging: Logging = Field(default_factory=Logging)
    state_dir: FileName | None = None
    """Fetched CRLs, denied by API, CRL indexes; null: the user's cache directory."""
    user: Text | None = None
    """Drop privileges to this user after binding."""
    workers: Annotated[
        Annotated[Literal["auto"], Tag("auto")] | Annotated[int, Field(ge=1, le=1024), Tag("number")],
        Discriminator(_workers_kind),
    ] = 1
    """Processes; auto: one a core."""
    shutdown: Shutdown = Field(default_factory=Shutdown)
