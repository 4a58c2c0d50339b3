"""Path building: which chains of names and signatures lead from a leaf to a trust anchor (RFC 4158, RFC 5280 §6.1).

Anybody can send certificates, so every step is paid for from a budget; when it is spent the search ends, and what has
not been found by then is untrusted.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from mtlsproxy.x509 import signatures
from mtlsproxy.x509.certificate import Certificate
from mtlsproxy.x509.names import issued_by_name
from mtlsproxy.x509.path import Link, Path
from mtlsproxy.x509.policy import Truststore

MAX_SIGNATURES = 32
"""Signature verifications a search. An honest chain needs one a certificate, and a few more where CAs share a name."""
MAX_STEPS = 256
"""Issuers tried a search, verified before or not: meshes of cross-signed CAs have exponentially many paths."""
MAX_PRESENTED = 64
"""Certificates of the client that are looked at; TLS stacks send fewer than ten."""
DEPTH_SLACK = 2
"""CA certificates followed beyond max_chain_depth, so that a chain just too long is called that."""


class PathSearch:
    """One search. `complete()` and then, for a refusal to be explained, `closest()`; the budget is shared."""

    def __init__(self, leaf: Certificate, presented: Sequence[Certificate], truststore: Truststore) -> None:
        self._leaf = leaf
        self._anchors = truststore.anchors
        known = {*truststore.anchors, leaf}
        pool = dict.fromkeys((*presented[:MAX_PRESENTED], *truststore.intermediates))
        self._intermediates = tuple(certificate for certificate in pool if certificate not in known)
        self._longest = truststore.policy.max_chain_depth + DEPTH_SLACK
        self._links: dict[tuple[Certificate, str, bytes | None], Link] = {}
        self._signatures = MAX_SIGNATURES
        self._steps = MAX_STEPS
        self._partial: Path | None = None
        self._overlooked = len(presented) > MAX_PRESENTED

    @property
    def exhausted(self) -> bool:
        return self._steps <= 0 or self._signatures <= 0

    def complete(self) -> Iterator[Path]:
        """Paths to a trust anchor on which every signature verifies, the likeliest first."""
        start = Path((self._leaf,), (), anchored=self._leaf in self._anchors)
        if start.anchored:
            yield start
        yield from self._extend(Path((self._leaf,), (), anchored=False), {Link.SIGNED})

    def closest(self) -> Path:
        """The most telling path when none was complete: by name to a trust anchor, else as far up as it goes."""
        spent = self.exhausted
        self._steps = MAX_STEPS
        for path in self._extend(Path((self._leaf,), (), anchored=False), set(Link)):
            return path
        assert self._partial is not None
        return replace(self._partial, gave_up=spent or self.exhausted or self._overlooked)

    def _extend(self, path: Path, acceptable: set[Link]) -> Iterator[Path]:
        extended = False
        for issuer in self._candidates(path):
            if self.exhausted:
                break
            self._steps -= 1
            link = self._link(path.certificates[-1], issuer)
            if link not in acceptable:
                continue
            extended = True
            anchored = issuer in self._anchors
            longer = Path((*path.certificates, issuer), (*path.links, link), anchored)
            if anchored:
                yield longer
            elif len(longer.certificates) - 1 <= self._longest:
                yield from self._extend(longer, acceptable)
            else:
                self._remember(Path(longer.certificates, longer.links, anchored=False, cut=True))
        if not extended:
            self._remember(path)

    def _remember(self, path: Path) -> None:
        if self._partial is None or _promise(path) > _promise(self._partial):
            self._partial = path

    def _candidates(self, path: Path) -> list[Certificate]:
        """Issuers by name, trust anchors first, then CAs, then whose key identifier fits; no CA twice on a path."""
        tip = path.certificates[-1]
        used = {(certificate.subject_der, certificate.spki_sha256) for certificate in path.certificates}
        anchors = [a for a in self._anchors if a != tip and issued_by_name(tip, a)]
        others = [
            c for c in self._intermediates if issued_by_name(tip, c) and (c.subject_der, c.spki_sha256) not in used
        ]
        return sorted(anchors, key=lambda c: _fit(tip, c)) + sorted(others, key=lambda c: _fit(tip, c))

    def _link(self, certificate: Certificate, issuer: Certificate) -> Link:
        key = (certificate, issuer.spki_sha256, issuer.subject_key_id)
        found = self._links.get(key)
        if found is None:
            self._signatures -= 1
            found = self._links[key] = signatures.link(certificate, issuer)
        return found


def _fit(certificate: Certificate, issuer: Certificate) -> tuple[bool, bool]:
    return not issuer.is_ca, signatures.key_ids_differ(certificate, issuer)


def _promise(path: Path) -> tuple[int, bool, int]:
    """Partial paths compare by how far real signatures carry, then by whether only their length ended them."""
    genuine = next((i for i, link in enumerate(path.links) if link is not Link.SIGNED), len(path.links))
    return genuine, path.cut, len(path.certificates)
