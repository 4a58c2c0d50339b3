"""What a reload changed, in words: who may come in is too important for a generation number alone."""

from collections import Counter
from collections.abc import Iterator

from mtlsproxy.runtime.material import Material
from mtlsproxy.verdict.trust import DenyList, Trust


def changes(old: Material, new: Material) -> Iterator[tuple[str, bool]]:
    """Each difference, and whether it concerns whom the proxy trusts."""
    if old.loaded.sha256 != new.loaded.sha256:
        yield f"the configuration: {old.loaded.sha256[:16]} to {new.loaded.sha256[:16]}", False
    before_trusts, after_trusts = old.all_trusts, new.all_trusts
    for name in sorted(before_trusts.keys() | after_trusts.keys()):
        if name not in after_trusts:
            yield f"truststore {name} is gone", True
        elif name not in before_trusts:
            yield f"truststore {name} is new", True
        else:
            yield from _trust_changes(name, before_trusts[name], after_trusts[name])
    before = {c.leaf.fingerprint_sha256 for chain in old.credentials.values() for c in chain}
    for listener, credentials in new.credentials.items():
        for credential in credentials:
            if credential.leaf.fingerprint_sha256 not in before:
                leaf = credential.leaf
                yield f"listener {listener} serves {leaf.subject}, valid until {leaf.not_after:%Y-%m-%d}", False
    for upstream, credential in new.client_credentials.items():
        known = old.client_credentials.get(upstream)
        if known is None or known.leaf != credential.leaf:
            leaf = credential.leaf
            yield f"upstream {upstream} is shown {leaf.subject}, valid until {leaf.not_after:%Y-%m-%d}", False


def _trust_changes(name: str, old: Trust, new: Trust) -> Iterator[tuple[str, bool]]:
    for kind, before, after in (
        ("trust anchor", old.truststore.anchors, new.truststore.anchors),
        ("intermediate", old.truststore.intermediates, new.truststore.intermediates),
    ):
        for certificate in after:
            if certificate not in before:
                yield f"truststore {name}: {kind} added: {certificate.subject} ({certificate.fingerprint_sha256})", True
        for certificate in before:
            if certificate not in after:
                yield f"truststore {name}: {kind} removed: {certificate.subject}", True
    if old.truststore.policy != new.truststore.policy or old.revocation != new.revocation:
        yield f"truststore {name}: its policy has changed", True
    known = {crl.sha256 for crl in old.crls.crls}
    for crl in new.crls.crls:
        if crl.sha256 not in known:
            yield f"truststore {name}: {crl.title} with {crl.entries} entries", False
    sources = {crl.source for crl in new.crls.crls}
    for crl in old.crls.crls:
        if crl.source not in sources:
            yield f"truststore {name}: {crl.title} is gone", True
    yield from _denial_changes(name, old.deny, new.deny)


def _denial_changes(name: str, old: DenyList, new: DenyList) -> Iterator[tuple[str, bool]]:
    for origin, before, after in (
        ("deny", old.configured, new.configured),
        ("deny_file", old.from_file, new.from_file),
    ):
        added, removed = Counter(after) - Counter(before), Counter(before) - Counter(after)
        if added or removed:
            yield (
                f"truststore {name}: {origin}: {added.total()} entries added, {removed.total()} removed, "
                f"{len(after)} in force", True,
            )  # fmt: skip
