"""A bounded HTTP client (RFC 9110) for CRLs and OCSP: it asks only what `FetchRules` allow, and stops at every limit.

No proxies, no environment, no cookies, no credentials, no system CAs. Redirects are followed by hand, each judged like
a first URL. Names are resolved here, judged, and connected to as they were judged, so that a second answer of the
DNS (rebinding) changes nothing.
"""

import asyncio
import os
import socket
import ssl
import zlib
from dataclasses import dataclass
from ipaddress import ip_address

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

import mtlsproxy
from mtlsproxy.fetch.names import Names
from mtlsproxy.fetch.rules import MAX_REDIRECTS, FetchError, FetchFailure, FetchRules, NamedBy

_CHUNK = 64 * 1024
_REDIRECTS_OF_GET = (301, 302, 303, 307, 308)
_REDIRECTS_OF_POST = (307, 308)  # the others turn it into a GET (RFC 9110 §15.4)
_NOT_MODIFIED = 304
_OK = 200
_BUSY = (408, 425, 429)
_GZIP = 31  # zlib's window bits for the gzip format
_HEADERS = {"User-Agent": f"mtlsproxy/{mtlsproxy.__version__}", "Accept-Encoding": "identity"}


@dataclass(frozen=True, slots=True)
class Validators:
    """What a server said of a copy that we hold (RFC 9110 §8.8), sent back to ask whether it changed."""

    etag: str | None = None
    last_modified: str | None = None

    def headers(self) -> dict[str, str]:
        pairs = (("If-None-Match", self.etag), ("If-Modified-Since", self.last_modified))
        return {name: value for name, value in pairs if value}


@dataclass(frozen=True, slots=True)
class Fetched:
    """An answer. body: None where the copy that the validators describe is still current (304)."""

    url: str
    body: bytes | None
    content_type: str
    validators: Validators


class Fetcher:
    """One set of rules and its connections. Belongs to one event loop; `close` it."""

    def __init__(self, rules: FetchRules, names: Names | None = None) -> None:
        """names: shared with other fetchers, so that they share look-ups. Raises FetchError where the trust anchors are
        no PEM certificates."""
        self.rules = rules
        self._names = names if names is not None else Names()
        self._tls = _tls_context(rules.trust_anchors)
        self._session: aiohttp.ClientSession | None = None

    async def get(self, url: str, named_by: NamedBy, validators: Validators | None = None) -> Fetched:
        """GET `url`, conditionally where `validators` are given. Raises FetchError."""
        conditional = validators.headers() if validators else {}
        return await self._ask("GET", url, named_by, None, {**_HEADERS, **conditional})

    async def post(self, url: str, named_by: NamedBy, body: bytes, content_type: str) -> Fetched:
        """POST `body`. Raises FetchError."""
        return await self._ask("POST", url, named_by, body, {**_HEADERS, "Content-Type": content_type})

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _ask(
        self, method: str, url: str, named_by: NamedBy, body: bytes | None, headers: dict[str, str]
    ) -> Fetched:
        try:
            async with asyncio.timeout(self.rules.timeout):
                return await self._follow(method, url, named_by, body, headers)
        except TimeoutError as error:
            text = f"{url}: no complete answer within {self.rules.timeout:g} s"
            raise FetchError(FetchFailure.TIMEOUT, text, retryable=True) from error

    async def _follow(
        self, method: str, url: str, named_by: NamedBy, body: bytes | None, headers: dict[str, str]
    ) -> Fetched:
        target = self._judged(url, _first(url), named_by)
        for _ in range(MAX_REDIRECTS + 1):
            answer = await self._one(method, url, target, body, headers)
            if isinstance(answer, Fetched):
                return answer
            if target.scheme == "https" and answer.scheme == "http":
                raise _refused(url, f"it redirects from https to {answer}")
            target = self._judged(url, answer, named_by, redirected=True)
        raise _refused(url, f"more than {MAX_REDIRECTS} redirects")

    def _judged(self, url: str, target: URL, named_by: NamedBy, *, redirected: bool = False) -> URL:
        host = target.raw_host or ""
        if target.raw_user or target.raw_password:
            raise _refused(url, "it carries a user name or a password")
        why = self.rules.why_not_url(target.scheme, host, named_by, redirected=redirected)
        if not why and "%" not in host:
            try:
                why = self.rules.why_not_address(host, ip_address(host))
            except ValueError:
                why = ""  # a name: judged when it is resolved
        elif not why:
            why = f"the address {host!r} has a scope"
        if why:
            raise _refused(url, why)
        return target

    async def _one(
        self, method: str, url: str, target: URL, body: bytes | None, headers: dict[str, str]
    ) -> Fetched | URL:
        """The answer of one request, or where it redirects to."""
        try:
            async with self._open().request(
                method, target, data=body, headers=headers, allow_redirects=False, ssl=self._tls
            ) as response:
                return await self._read(url, response, conditional=len(headers) > len(_HEADERS) and method == "GET")
        except _Unfit as error:
            raise _refused(url, str(error)) from error
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientSSLError) as error:
            raise FetchError(FetchFailure.TLS, f"{url}: TLS failed: {error}", retryable=True) from error
        except aiohttp.ClientConnectionError as error:
            raise FetchError(FetchFailure.UNREACHABLE, f"{url}: {_why(error)}", retryable=True) from error
        except aiohttp.ClientError as error:
            text = f"{url}: the answer is not proper HTTP: {error}"
            raise FetchError(FetchFailure.PROTOCOL, text, retryable=True) from error

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            # No connection is used twice: one that the server closes just then would fail what cannot be repeated.
            connector = aiohttp.TCPConnector(
                resolver=_JudgingResolver(self.rules, self._names), use_dns_cache=False, limit=0, force_close=True
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None),  # ours covers all hops
                auto_decompress=False,
                trust_env=False,
            )
        return self._session

    async def _read(self, url: str, response: aiohttp.ClientResponse, *, conditional: bool) -> Fetched | URL:
        status = response.status
        redirects = _REDIRECTS_OF_GET if response.method == "GET" else _REDIRECTS_OF_POST
        if status in redirects:
            return _redirection(url, response)
        validators = Validators(_short(response.headers.get("ETag")), _short(response.headers.get("Last-Modified")))
        if status == _NOT_MODIFIED and conditional:
            return Fetched(url, None, "", validators)
        if status != _OK:
            retryable = status >= 500 or status in _BUSY
            raise FetchError(FetchFailure.STATUS, f"{url}: the server answered {status}", retryable=retryable)
        return Fetched(url, await self._body(url, response), response.content_type, validators)

    async def _body(self, url: str, response: aiohttp.ClientResponse) -> bytes:
        """The body, decoded, never more than `max_size` of it in memory."""
        declared = response.content_length
        limit = self.rules.max_size
        if declared is not None and declared > limit:
            raise _too_large(url, limit)
        encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
        decoder = _decoder(url, encoding)
        body = bytearray()
        async for chunk in response.content.iter_chunked(_CHUNK):
            body += decoder.decompress(chunk, limit + 1 - len(body)) if decoder else chunk
            if len(body) > limit:
                raise _too_large(url, limit)
            if decoder and decoder.unused_data:
                raise FetchError(FetchFailure.PROTOCOL, f"{url}: octets follow the gzip stream", retryable=False)
        if decoder and not decoder.eof:
            raise FetchError(FetchFailure.PROTOCOL, f"{url}: the gzip stream is cut short", retryable=True)
        return bytes(body)


class _Gunzip:
    """zlib's decompressor with its error as ours."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._inner = zlib.decompressobj(_GZIP)

    def decompress(self, data: bytes, limit: int) -> bytes:
        try:
            return self._inner.decompress(data, limit)
        except zlib.error as error:
            text = f"{self._url}: the body is not the gzip that it says it is: {error}"
            raise FetchError(FetchFailure.PROTOCOL, text, retryable=True) from error

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    @property
    def eof(self) -> bool:
        return self._inner.eof


def _decoder(url: str, encoding: str) -> _Gunzip | None:
    """We ask for identity; servers that keep compressed files send gzip all the same."""
    if encoding in ("", "identity"):
        return None
    if encoding in ("gzip", "x-gzip"):
        return _Gunzip(url)
    raise FetchError(
        FetchFailure.PROTOCOL, f"{url}: the content coding {encoding!r} was not asked for", retryable=False
    )


def _redirection(url: str, response: aiohttp.ClientResponse) -> URL:
    location = response.headers.get("Location")
    if location is None:
        raise FetchError(FetchFailure.PROTOCOL, f"{url}: a redirect without Location", retryable=True)
    try:
        return response.url.join(_parse(location))
    except ValueError as error:
        raise _refused(url, f"it redirects to {location[:200]!r}, which is no URL: {error}") from error


def _first(url: str) -> URL:
    try:
        parsed = _parse(url)
    except ValueError as error:
        raise _refused(url, f"it is no URL: {error}") from error
    if not parsed.raw_host:
        raise _refused(url, f"its scheme is {parsed.scheme or 'missing'}, and it names no host")
    return parsed


def _parse(text: str) -> URL:
    """The URL as the client library reads it: what is judged is what is asked. Raises ValueError."""
    url = URL(text)
    if (url.scheme in ("http", "https") and not url.raw_host) or "\\" in text:  # readers of URLs disagree on both
        raise ValueError("its host is empty or ambiguous")
    _ = url.port  # read by yarl only now
    return url


def _why(error: aiohttp.ClientConnectionError) -> str:
    if not isinstance(error, aiohttp.ClientConnectorError):
        return str(error) or "disconnected"
    found = error.os_error  # of a resolver it has a negative number and words of its own
    words = os.strerror(found.errno) if found.errno and found.errno > 0 else found.strerror or str(found)
    return f"cannot connect to {error.host}:{error.port}: {words}"


def _short(header: str | None) -> str | None:
    """A validator that is worth keeping: one beyond this is no validator."""
    return header if header is not None and len(header) <= 1024 and header.isprintable() else None


def _refused(url: str, why: str) -> FetchError:
    return FetchError(FetchFailure.NOT_ALLOWED, f"{url}: not fetched: {why}", retryable=False)


def _too_large(url: str, limit: int) -> FetchError:
    text = f"{url}: the answer is larger than revocation.fetch.max_size, or an OCSP answer, may be: {limit} octets"
    return FetchError(FetchFailure.TOO_LARGE, text, retryable=False)


def _tls_context(trust_anchors: str) -> ssl.SSLContext:
    """Without trust anchors the rules refuse https; were it asked all the same, nobody would be verified."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies certificate and name, loads no CA by itself
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # every certificate in there is meant as an anchor
    if not trust_anchors:
        return context
    try:
        context.load_verify_locations(cadata=trust_anchors)
    except (ssl.SSLError, ValueError) as error:
        text = f"revocation.fetch.trust_anchors hold no PEM certificates: {error}"
        raise FetchError(FetchFailure.TLS, text, retryable=False) from error
    return context


class _Unfit(Exception):
    """None of a name's addresses may be connected to."""


class _JudgingResolver(AbstractResolver):
    """The system's resolver, whose answers are judged before anybody connects to them."""

    def __init__(self, rules: FetchRules, names: Names) -> None:
        self._rules = rules
        self._names = names

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._names.find(host, family)
        allowed: list[ResolveResult] = []
        refused = ""
        for kind, _, protocol, _, place in found:
            address = ip_address(place[0])
            if why := self._rules.why_not_address(host, address):
                refused = why
                continue
            allowed.append(
                ResolveResult(hostname=host, host=str(address), port=port, family=kind, proto=protocol,
                              flags=socket.AI_NUMERICHOST)
            )  # fmt: skip
        if not allowed:
            raise _Unfit(refused or f"{host} has no address")
        return allowed

    async def close(self) -> None:
        """Nothing is held."""
