"""What a verification found: the checks that `explain`, the log and the admin page show. Never a bare bool."""

from dataclasses import dataclass
from enum import StrEnum


class Result(StrEnum):
    PASS = "pass"  # noqa: S105
    FAIL = "fail"
    SKIPPED = "skipped"


CHECK_NAMES = (
    "chain",
    "validity",
    "key",
    "signature",
    "key_usage",
    "extended_key_usage",
    "name_constraints",
    "certificate_policies",
    "spiffe",
    "revocation",
    "deny",
    "route",
    "access",
)
"""Every check, in the order in which the data path judges. The names are fixed: outside tools match on them."""


@dataclass(frozen=True, slots=True)
class Check:
    """One check of a verification.

    name: one of CHECK_NAMES. seen: the value met, in words. rule: what was demanded, with the standard's section where
    there is one. fix: how the operator or the client mends a failure ("" unless result is FAIL).
    """

    name: str
    result: Result
    seen: str
    rule: str
    fix: str = ""
