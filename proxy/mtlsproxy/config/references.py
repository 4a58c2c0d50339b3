"""What must hold between parts of the file: names that are used exist, names that are given are given once.

Works on the data as written, so that these errors come together with those of the model.
"""

from collections.abc import Iterator

from mtlsproxy.config.document import Document, Path
from mtlsproxy.config.errors import ConfigError, did_you_mean
from mtlsproxy.config.scalars import Bind, parse_bind


def check_references(document: Document) -> list[ConfigError]:
    """Dangling and duplicate names. What has the wrong type is passed over: the model says so."""
    root = _mapping(document.data)
    return [
        *_duplicates(document, "listeners"),
        *_duplicates(document, "routes"),
        *_same_addresses(document, root),
        *_listeners(document, root),
        *_routes(document, root),
        *_logs(document, root),
    ]


def _mapping(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}


def _sequence(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _names(value: object) -> list[str]:
    return [name for name in _sequence(value) if isinstance(name, str)]


def _duplicates(document: Document, section: str) -> Iterator[ConfigError]:
    first: dict[str, int] = {}
    for index, entry in enumerate(_sequence(_mapping(document.data).get(section))):
        name = _mapping(entry).get("name")
        if not isinstance(name, str):
            continue
        if name in first:
            yield document.error((section, index, "name"), f"{name} is the name of {section}[{first[name]}] already")
        first.setdefault(name, index)


def _addresses(root: dict[str, object]) -> Iterator[tuple[Path, Bind]]:
    written: list[tuple[Path, object]] = [
        (("listeners", index, "bind"), _mapping(entry).get("bind"))
        for index, entry in enumerate(_sequence(root.get("listeners")))
    ]
    admin = _mapping(root.get("admin"))
    written += [(("admin", key), admin.get(key)) for key in ("bind", "metrics_bind")]
    for path, value in written:
        try:
            bind = parse_bind(value)
        except ValueError:
            continue
        if bind.port or bind.fd_name:
            yield path, bind


def _same_addresses(document: Document, root: dict[str, object]) -> Iterator[ConfigError]:
    taken: set[Bind] = set()
    for path, bind in _addresses(root):
        if bind in taken:
            yield document.error(path, f"{bind} is bound above already")
        taken.add(bind)


def _keys(root: dict[str, object], section: str) -> list[str] | None:
    """The names of a section; None where it is no mapping, which is error enough."""
    value = root.get(section, {})
    return list(value) if isinstance(value, dict) else None


def _dangling(document: Document, path: Path, name: str, what: str, known: list[str] | None) -> Iterator[ConfigError]:
    if known is not None and name not in known:
        yield document.error(path, f"there is no {what} {name!r}{did_you_mean(name, known)}")


def _listeners(document: Document, root: dict[str, object]) -> Iterator[ConfigError]:
    truststores = _keys(root, "truststores")
    for index, entry in enumerate(_sequence(root.get("listeners"))):
        listener = _mapping(entry)
        for position, name in enumerate(_sequence(_mapping(listener.get("client_auth")).get("truststores"))):
            if isinstance(name, str):
                path = ("listeners", index, "client_auth", "truststores", position)
                yield from _dangling(document, path, name, "truststore", truststores)
        if listener.get("proxy_protocol") in ("v1", "v2") and not listener.get("proxy_protocol_from"):
            yield document.error(
                ("listeners", index, "proxy_protocol"),
                "needs proxy_protocol_from: without it nobody may send the header, and everybody is refused",
            )


def _routes(document: Document, root: dict[str, object]) -> Iterator[ConfigError]:
    listeners = [_mapping(entry) for entry in _sequence(root.get("listeners"))]
    names = [name for listener in listeners if isinstance(name := listener.get("name"), str)]
    truststores = _keys(root, "truststores")
    targets = (
        ("upstream", _keys(root, "upstreams")),
        ("identity", ["default", *(_keys(root, "identities") or ())]),
    )
    for index, entry in enumerate(_sequence(root.get("routes"))):
        route = _mapping(entry)
        if len(listeners) > 1 and "listeners" not in route:
            yield document.error(
                ("routes", index), f"listeners is required where there are several: any of {', '.join(names)}"
            )
        for key, what, known in (("listeners", "listener", names), ("truststores", "truststore", truststores)):
            for position, name in enumerate(_sequence(route.get(key))):
                if isinstance(name, str):
                    yield from _dangling(document, ("routes", index, key, position), name, what, known)
        for key, known in targets:
            if isinstance(name := route.get(key), str):
                yield from _dangling(document, ("routes", index, key), name, key, known)
        yield from _unreachable(document, index, route, listeners)


def _unreachable(
    document: Document, index: int, route: dict[str, object], listeners: list[dict[str, object]]
) -> Iterator[ConfigError]:
    """A route that asks for truststores which none of its listeners has would refuse everybody, for ever."""
    wanted = _names(route.get("truststores"))
    on = _names(route.get("listeners"))
    offered = [
        name
        for listener in listeners
        if not on or listener.get("name") in on
        for name in _names(_mapping(listener.get("client_auth")).get("truststores"))
    ]
    if wanted and offered and not set(wanted) & set(offered):
        yield document.error(
            ("routes", index, "truststores"),
            f"none of these is among client_auth.truststores of the route's listeners ({', '.join(offered)})",
        )


def _logs(document: Document, root: dict[str, object]) -> Iterator[ConfigError]:
    logging = _mapping(root.get("logging"))
    audit = logging.get("audit")
    if isinstance(audit, str) and audit == logging.get("access"):
        yield document.error(("logging", "audit"), "is the access log's file: the audit log needs one of its own")
