"""Asks a running proxy's admin listener. Never through a proxy of the environment, and never to where it redirects."""

import http.client
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mtlsproxy.cli.foreign import foreign_json
from mtlsproxy.cli.report import BadInput
from mtlsproxy.config.model import Admin
from mtlsproxy.runtime.token import TokenError, read_token

TIMEOUT = 10.0
"""Seconds for connecting, and between two reads."""

MAX_ANSWER = 64 * 1024 * 1024
"""Octets: of ten thousand clients with long names."""

DEFAULT_URL = "http://127.0.0.1:9901"
_TUNNEL = "ssh -L 9901:127.0.0.1:9901 HOST"


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """The token is for who was asked."""

    def redirect_request(self, *_: object) -> None:
        return None


_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirects())


class NotThere(Exception):
    """The admin answers that there is no such thing."""


def admin_url(given: str | None, configured: Admin | None) -> str:
    """Of `--admin`, else of the configuration, else where an admin is by default. Raises BadInput."""
    if given is None:
        return DEFAULT_URL if configured is None else _configured(configured)
    parts = urlsplit(given)
    if parts.scheme == "https":
        # urllib would verify it by the system's CAs, which are used nowhere here.
        raise BadInput(f"--admin: the admin speaks http; from elsewhere ask through a tunnel, as {_TUNNEL} makes one")
    if parts.scheme != "http" or not parts.hostname or parts.query or parts.fragment:
        raise BadInput(f"--admin: {given!r} is not a URL such as {DEFAULT_URL}")
    return given.rstrip("/")


def _configured(admin: Admin) -> str:
    bind = admin.bind
    if bind.fd_name is not None:
        raise BadInput(f"the configuration's admin.bind is {bind}: say where that is with --admin URL")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(bind.host, bind.host)  # noqa: S104 - where it listens, not we
    return f"http://[{host}]:{bind.port}" if ":" in host else f"http://{host}:{bind.port}"


def token_of(file: Path | None) -> str | None:
    """The text of a token file; None where none is given. Raises BadInput."""
    if file is None:
        return None
    try:
        read_token(file)
        return file.read_text("ascii").strip()
    except TokenError as error:
        raise BadInput(f"--token-file: {error.detail}") from error


def ask(url: str, path: str, token: str | None) -> dict[str, Any]:
    """The JSON object at `path`. Raises NotThere and BadInput, which says how to go on."""
    request = urllib.request.Request(url + path, headers={"Accept": "application/json"})  # noqa: S310 - see admin_url
    if token is not None:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with _OPENER.open(request, timeout=TIMEOUT) as answer:
            return _object(answer.read(MAX_ANSWER + 1), url)
    except urllib.error.HTTPError as error:
        with error:
            raise _refused(error, url) from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise BadInput(f"the admin at {url} cannot be asked: {reason}. Is it there? --admin URL says where") from error


def _refused(error: urllib.error.HTTPError, url: str) -> Exception:
    if error.code == 404:
        return NotThere()
    detail = _detail(error)
    if error.code in (401, 403):
        return BadInput(f"the admin at {url} refuses: {detail}. --token-file F names the file with its token")
    return BadInput(f"the admin at {url} answers {error.code}: {detail}")


def _detail(error: urllib.error.HTTPError) -> str:
    try:
        said = foreign_json(error.read(MAX_ANSWER))
    except (ValueError, OSError, http.client.HTTPException):
        return error.reason
    return str(said.get("detail") or error.reason) if isinstance(said, dict) else error.reason


def _object(data: bytes, url: str) -> dict[str, Any]:
    try:
        said = foreign_json(data)
    except ValueError as error:
        raise BadInput(f"{url} does not answer as an admin of mtlsproxy does: {error}") from error
    if not isinstance(said, dict):
        raise BadInput(f"{url} does not answer as an admin of mtlsproxy does")
    return said
