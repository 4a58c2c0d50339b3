"""How an Explanation looks."""

from datetime import UTC, datetime

from rich.text import Text
from rich.tree import Tree

from mtlsproxy.cli import report_sources
from mtlsproxy.cli.inquiry import Explanation
from mtlsproxy.cli.report import line, moment, print_json, print_tree, text, tree
from mtlsproxy.cli.report_checks import check_tree
from mtlsproxy.x509.certificate import Certificate, serial_hex

_NAME_WIDTH = 20
"""The longest name, certificate_policies."""


def print_explanation(explanation: Explanation, output_format: str) -> None:
    if output_format == "json":
        print_json(as_json(explanation))
    else:
        print_tree(*explanation_parts(explanation))


def explanation_parts(explanation: Explanation) -> list[Tree | Text]:
    """For people."""
    shown = (check_tree(check, _NAME_WIDTH) for check in explanation.checks)
    checks = tree(text("checks, in the order of the data path"), shown)
    return [_verdict(explanation), *_facts(explanation), checks]


def as_json(explanation: Explanation) -> dict[str, object]:
    """The shape that interfaces.md fixes, and after it what else is known."""
    leaf, consulted = explanation.verdict.leaf, explanation.consulted
    return {
        "accepted": explanation.accepted,
        "reason": explanation.reason,
        "subject": leaf.subject if leaf else None,
        "fingerprint_sha256": leaf.fingerprint_sha256 if leaf else None,
        "checks": [
            {
                "name": check.name,
                "result": check.result,
                "seen": check.seen,
                "rule": check.rule,
                "fix": check.fix,
            }
            for check in explanation.checks
        ],
        "issuer": leaf.issuer if leaf else None,
        "serial": serial_hex(leaf.serial) if leaf else None,
        "truststore": explanation.truststore,
        "listener": explanation.listener,
        "route": explanation.route,
        "at": moment(explanation.at),
        "not_asked": list(report_sources.missing(consulted)) if consulted else [],
        "sources": report_sources.as_json(consulted) if consulted else [],
    }


def _verdict(explanation: Explanation) -> Text:
    if explanation.reason is None:
        route = f", may use route {explanation.route}" if explanation.route else ""
        return line(("accepted", "bold green"), f"by truststore {explanation.truststore}{route}")
    if explanation.accepted:
        words = f"in shadow mode: {explanation.reason} is logged, and let pass while route {explanation.route} says so"
        return line(("accepted", "bold yellow"), words)
    return line(("refused", "bold red"), (explanation.reason, "bold"), f"- {explanation.detail}")


def _facts(explanation: Explanation) -> list[Tree | Text]:
    leaf = explanation.verdict.leaf
    facts: list[Tree | Text] = []
    if leaf is not None:
        facts.append(certificate_facts(leaf))
    where = [f"judged as of {moment(explanation.at)}"]
    where += [f"truststore {explanation.truststore}"] if explanation.truststore else []
    where += [f"listener {explanation.listener}"] if explanation.listener else []
    where += [f"route {explanation.route}"] if explanation.route else []
    facts.append(text(", ".join(where)))
    if explanation.consulted is not None:
        shown = report_sources.show(explanation.consulted, datetime.now(UTC))
        facts += [tree(text("revocation data over the network"), shown)] if shown else []
    if explanation.identity:
        lines = explanation.identity.decode("ascii").removesuffix("\r\n").split("\r\n")
        facts.append(tree(text("the upstream is told"), (text(header, "cyan") for header in lines)))
    return facts


def certificate_facts(leaf: Certificate) -> Tree:
    """Who it is for, and whose."""
    names = ", ".join(f"{kind}:{name}" for kind, name in leaf.sans.ordered)
    return tree(
        line("certificate", (leaf.subject or "(empty subject)", "bold")),
        [
            line(("issued by", "dim"), leaf.issuer or "(empty name)"),
            *([line(("names", "dim"), names)] if names else []),
            line(("serial", "dim"), serial_hex(leaf.serial)),
            line(("valid", "dim"), f"{moment(leaf.not_before)} to {moment(leaf.not_after)}"),
            line(("sha256", "dim"), leaf.fingerprint_sha256),
        ],
    )
