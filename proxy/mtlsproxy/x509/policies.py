"""Certificate policies (RFC 5280 §6.1.2 (a)-(f), §6.1.3 (d)-(f), §6.1.4 (a), (b), (h)-(j), §6.1.5).

The policy tree is kept as the set of its deepest valid nodes: qualifiers and the tree's inner nodes decide nothing, and
a set cannot be made to grow exponentially (CVE-2023-0464).
"""

from dataclasses import dataclass

from mtlsproxy.reasons import Reason
from mtlsproxy.x509.certificate import Certificate
from mtlsproxy.x509.path import Finding, Path, failed, passed
from mtlsproxy.x509.policy import Policy

NAME = "certificate_policies"
ANY_POLICY = "2.5.29.32.0"


def check_certificate_policies(path: Path, policy: Policy) -> Finding:
    """A CA's demand for an explicit policy, and the truststore's `certificate_policies` (one of them in the leaf)."""
    wanted = policy.certificate_policies
    asserted = path.leaf.certificate_policies
    seen = ", ".join(asserted) or "no policies"
    if wanted:
        rule = f"one of the policies {', '.join(wanted)} (certificate_policies)"
        # A CA that names policies is limited to them; one that names none leaves the choice to those below it.
        valid = _process(path, absent_is_any=True).valid
        if not any(oid in valid and oid in asserted for oid in wanted):
            fix = "ask the CA for a certificate under one of these policies"
            return failed(NAME, Reason.POLICY_OID, f"the leaf asserts {seen}", rule, fix)
    else:
        rule = "a policy that holds along the path where a CA demands one (RFC 5280 §6.1.5)"
    if any(c.policy_constraints is not None or c.policy_mappings for c in path.below_anchor):
        state = _process(path, absent_is_any=False)
        if state.violated:
            fix = "ask the CA for a certificate under a policy that its own CA certificates carry"
            seen = f"a CA demands an explicit policy, or maps anyPolicy, and none holds along the path (leaf: {seen})"
            return failed(NAME, Reason.POLICY_OID, seen, "requireExplicitPolicy (RFC 5280 §4.2.1.11, §6.1.4)", fix)
    return passed(NAME, seen, rule)


@dataclass(slots=True)
class _State:
    """RFC 5280 §6.1.2. Counters say how many certificates may still pass before the restriction holds."""

    valid: set[str]
    explicit_policy: int
    policy_mapping: int
    inhibit_any: int
    violated: bool = False


def _process(path: Path, *, absent_is_any: bool) -> _State:
    certificates = path.below_anchor
    never = len(certificates) + 1
    state = _State({ANY_POLICY}, never, never, never)
    for index in range(len(certificates) - 1, -1, -1):
        certificate = certificates[index]
        _intersect(state, certificate, leaf=index == 0, absent_is_any=absent_is_any)
        if index > 0:
            _prepare_for_next(state, certificate)
    # §6.1.5 (a), (b): the leaf itself uses one up, and may demand a policy of itself. What ends as valid was valid at
    # every step and the counter only falls, so that §6.1.3 (f) is judged here once for all of them.
    state.explicit_policy = max(state.explicit_policy - 1, 0)
    constraints = certificates[0].policy_constraints
    if constraints is not None and constraints.require_explicit_policy == 0:
        state.explicit_policy = 0
    state.violated |= state.explicit_policy == 0 and not state.valid
    return state


def _intersect(state: _State, certificate: Certificate, *, leaf: bool, absent_is_any: bool) -> None:
    """§6.1.3 (d), (e): what is valid so far, narrowed to what this certificate asserts."""
    asserted = set(certificate.certificate_policies)
    if not asserted:
        if not absent_is_any or leaf:
            state.valid = set()
        return
    any_allowed = state.inhibit_any > 0 or (not leaf and certificate.self_issued)
    named = asserted - {ANY_POLICY}
    valid = named if ANY_POLICY in state.valid else named & state.valid
    state.valid = valid | state.valid if ANY_POLICY in asserted and any_allowed else valid


def _prepare_for_next(state: _State, certificate: Certificate) -> None:
    """§6.1.4 (a), (b), (h)-(j)."""
    for issuer_policy, subject_policy in certificate.policy_mappings:
        if ANY_POLICY in (issuer_policy, subject_policy):
            state.violated = True  # §6.1.4 (a): never mapped
            return
    _map(state, certificate.policy_mappings)
    if not certificate.self_issued:
        state.explicit_policy = max(state.explicit_policy - 1, 0)
        state.policy_mapping = max(state.policy_mapping - 1, 0)
        state.inhibit_any = max(state.inhibit_any - 1, 0)
    constraints = certificate.policy_constraints
    if constraints is not None:
        if constraints.require_explicit_policy is not None:
            state.explicit_policy = min(state.explicit_policy, constraints.require_explicit_policy)
        if constraints.inhibit_policy_mapping is not None:
            state.policy_mapping = min(state.policy_mapping, constraints.inhibit_policy_mapping)
    if certificate.inhibit_any_policy is not None:
        state.inhibit_any = min(state.inhibit_any, certificate.inhibit_any_policy)


def _map(state: _State, mappings: tuple[tuple[str, str], ...]) -> None:
    """§6.1.4 (b): policies are called by the subject's names from here on; where mapping is inhibited they end."""
    mapped = {issuer_policy for issuer_policy, _ in mappings}
    onto: set[str] = set()
    if state.policy_mapping > 0:
        onto = {subject for issuer, subject in mappings if issuer in state.valid or ANY_POLICY in state.valid}
    state.valid = (state.valid - mapped) | onto
