"""Name constraints (RFC 5280 §4.2.1.10 and §6.1.3 (b), (c)).

Names that a constraint speaks about and that cannot be compared with it beyond doubt are refused: a form that is not
interpreted here, a host with an empty label, a mailbox without exactly one @.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from urllib.parse import urlsplit

from cryptography import x509 as pyca
from cryptography.x509.oid import NameOID

from mtlsproxy.reasons import Reason
from mtlsproxy.x509.certificate import Certificate
from mtlsproxy.x509.names import Rdn, canonical
from mtlsproxy.x509.path import Finding, Path, failed, passed, skipped

NAME = "name_constraints"
MAX_COMPARISONS = 10_000
"""Names times constraints over all paths of one validation: some 20 ms of work at worst."""

_SMTP_UTF8_MAILBOX = "1.3.6.1.5.5.7.8.9"
_HOST = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_*.")


@dataclass(slots=True)
class Comparisons:
    """How many comparisons a validation may still make."""

    left: int = MAX_COMPARISONS


class _Unjudgeable(Exception):
    """A name or a constraint that cannot be compared; the text says why."""


@dataclass(frozen=True, slots=True)
class _Names:
    """One certificate's names, by the kind of constraint that governs them."""

    dns: tuple[str, ...] = ()
    emails: tuple[str, ...] = ()
    uris: tuple[str, ...] = ()
    ips: tuple[IPv4Address | IPv6Address, ...] = ()
    directories: tuple[tuple[Rdn, ...], ...] = ()
    others: tuple[str, ...] = ()


def check_name_constraints(path: Path, budget: Comparisons) -> Finding:
    """Every issuer's constraints, the trust anchor's too, on every certificate below but self-issued CAs."""
    rule = "every name within the permitted and outside the excluded subtrees of every CA above (RFC 5280 §4.2.1.10)"
    constraining = [
        (index, c.name_constraints) for index, c in enumerate(path.certificates) if index and c.name_constraints
    ]
    if constraining and not path.genuine:
        # Anybody could have written these constraints, and made them expensive.
        return skipped(NAME, "constraints of CAs that no trust anchor vouches for", rule)
    names = [names_of(certificate) for certificate in path.certificates[:-1]] if constraining else []
    for index, constraints in constraining:
        for below in range(index):
            if below and path.certificates[below].self_issued:
                continue
            problem = _problem(names[below], constraints, budget)
            if problem is not None:
                seen = f"{path.role(below)}: {problem} (constraint of {path.role(index)})"
                fix = "ask the CA for a certificate whose names it may issue, or use a CA that may issue these"
                return failed(NAME, Reason.NAME_CONSTRAINT, seen, rule, fix)
    seen = f"{len(constraining)} CA certificates with constraints" if constraining else "no CA constrains names"
    return passed(NAME, seen, rule)


def names_of(certificate: Certificate) -> _Names:
    """Subject and subjectAltName; the subject's emailAddress counts where there is no subjectAltName (§4.2.1.10)."""
    sans, subject = certificate.sans, certificate.x509.subject
    emails = sans.emails
    if not sans.present:
        emails = tuple(str(a.value) for a in subject.get_attributes_for_oid(NameOID.EMAIL_ADDRESS))
    directories = (subject, *sans.directory_names) if subject.rdns else sans.directory_names
    return _Names(sans.dns, emails, sans.uris, sans.ips, tuple(map(canonical, directories)), sans.others)


def _problem(names: _Names, constraints: pyca.NameConstraints, budget: Comparisons) -> str | None:
    permitted, excluded = constraints.permitted_subtrees or [], constraints.excluded_subtrees or []
    budget.left -= len(permitted) + len(excluded)
    try:
        for kind, values, within in _kinds(names):
            allowed = [_comparable(subtree) for subtree in permitted if isinstance(subtree, kind)]
            forbidden = [_comparable(subtree) for subtree in excluded if isinstance(subtree, kind)]
            if not allowed and not forbidden:
                continue
            budget.left -= len(values) * (len(allowed) + len(forbidden))
            if budget.left < 0:
                return "more names and constraints than are compared"
            for value in values:
                if any(within(value, subtree, True) for subtree in forbidden):
                    return f"{_shown(value)} is excluded"
                if allowed and not any(within(value, subtree, False) for subtree in allowed):
                    return f"{_shown(value)} is not permitted"
    except _Unjudgeable as error:
        return str(error)
    return None


_Kind = type[pyca.GeneralName] | tuple[type[pyca.GeneralName], ...]
_Within = Callable[..., bool]
"""(name, constraint, excluded) → whether the name is, or for an excluded subtree could be, within the subtree."""


def _kinds(names: _Names) -> Iterator[tuple[_Kind, tuple[object, ...], _Within]]:
    yield pyca.DNSName, names.dns, _dns_within
    yield pyca.RFC822Name, names.emails, _email_within
    # RFC 9598: an internationalised mailbox hides in an otherName, where constraints on mail must reach it.
    yield pyca.RFC822Name, tuple(oid for oid in names.others if oid == _SMTP_UTF8_MAILBOX), _uninterpreted
    yield pyca.UniformResourceIdentifier, names.uris, _uri_within
    yield pyca.IPAddress, names.ips, _ip_within
    yield pyca.DirectoryName, names.directories, _directory_within
    yield (pyca.OtherName, pyca.RegisteredID), names.others, _uninterpreted


def _comparable(subtree: pyca.GeneralName) -> object:
    return canonical(subtree.value) if isinstance(subtree, pyca.DirectoryName) else subtree.value


def _shown(value: object) -> str:
    return "its directory name" if isinstance(value, tuple) else str(value)


def _uninterpreted(value: str, _: object, __: bool) -> bool:
    raise _Unjudgeable(f"a name of the form {value} is constrained, and not interpreted")


def _host(text: str, what: str) -> str:
    """A host in lower case, compared label by label; raises _Unjudgeable for one that has no single reading."""
    lowered = text.lower()
    if not lowered or not _HOST.issuperset(lowered) or "" in lowered.split(".") or len(lowered) > 253:
        raise _Unjudgeable(f"{what} {text!r} is no host name that can be compared")
    return lowered


def _below(host: str, domain: str) -> bool:
    return host.endswith("." + domain)


def _dns_within(name: str, constraint: str, excluded: bool) -> bool:
    host = _host(name, "the dNSName")
    if constraint == "":
        return True
    domain = _host(constraint, "the constraint")
    if host == domain or _below(host, domain):
        return True
    # A wildcard stands for each name one label below its base: an excluded one of those would slip through.
    return excluded and host.startswith("*.") and domain.partition(".")[2] == host[2:]


def _host_within(host: str, constraint: str) -> bool:
    """Mail and URI hosts: `.example.com` is everything below, `host.example.com` that host alone (§4.2.1.10)."""
    if constraint.startswith("."):
        return _below(host, _host(constraint[1:], "the constraint"))
    return host == _host(constraint, "the constraint")


def _mailbox(text: str, what: str) -> tuple[str, str]:
    local, at, host = text.rpartition("@")
    if not at or not local or "@" in local or not text.isascii():
        raise _Unjudgeable(f"{what} {text!r} is no mailbox that can be compared")
    return local, _host(host, what)


def _email_within(name: str, constraint: str, _: bool) -> bool:
    local, host = _mailbox(name, "the rfc822Name")
    if constraint == "":
        return True
    if "@" in constraint:
        return (local, host) == _mailbox(constraint, "the constraint")
    return _host_within(host, constraint)


def _uri_within(name: str, constraint: str, _: bool) -> bool:
    """§4.2.1.10: a URI without a host name in its authority is refused where URIs are constrained."""
    try:
        host = urlsplit(name).hostname
    except ValueError:
        host = None
    if host is None or "\\" in name or " " in name or _is_address(host):
        raise _Unjudgeable(f"the URI {name!r} has no host name to compare")
    host = _host(host, "the host of the URI")
    return True if constraint == "" else _host_within(host, constraint)


def _is_address(host: str) -> bool:
    return ":" in host or host.rpartition(".")[2].isdigit()


def _ip_within(name: IPv4Address | IPv6Address, constraint: IPv4Network | IPv6Network, _: bool) -> bool:
    return name in constraint


def _directory_within(name: tuple[Rdn, ...], constraint: tuple[Rdn, ...], _: bool) -> bool:
    return name[: len(constraint)] == constraint
