"""What a truststore demands of revocation, and the clock skew that every source is granted."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from mtlsproxy.x509.policy import CURVES, SIGNATURE_HASHES

CLOCK_SKEW = timedelta(minutes=5)
"""How far in the future thisUpdate may be: CAs publish at once, and clocks differ by this much, not more."""


@dataclass(frozen=True, slots=True)
class OcspPolicy:
    """A truststore's `revocation.ocsp`, and its `keys` and `signature_hashes`, which hold for delegated responders.

    responder: the URL that is asked for every certificate; None where each names its own. max_age: how long after
    thisUpdate an answer without nextUpdate counts. require_nonce: an answer must repeat the request's.
    """

    enabled: bool = False
    responder: str | None = None
    max_age: timedelta = timedelta(hours=1)
    require_nonce: bool = False
    minimum_rsa_bits: int = 2048
    curves: frozenset[str] = CURVES
    signature_hashes: frozenset[str] = SIGNATURE_HASHES


@dataclass(frozen=True, slots=True)
class RevocationPolicy:
    """A truststore's `revocation`. grace: how long past nextUpdate a list still counts. short_lived: leaves that live
    no longer are exempt; zero exempts none. lists: whether there is any source of CRLs; without one, OCSP alone is
    asked and the evidence speaks of nothing else."""

    mode: Literal["hard_fail", "soft_fail", "off"]
    scope: Literal["chain", "leaf"] = "chain"
    grace: timedelta = timedelta(0)
    short_lived: timedelta = timedelta(0)
    ocsp: OcspPolicy = OcspPolicy()
    lists: bool = True
