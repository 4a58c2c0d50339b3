"""Header values carry a client's names without ever becoming something else than those names."""

import re
from base64 import b64decode
from dataclasses import replace
from ipaddress import ip_address
from urllib.parse import unquote

import pytest
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.identity.build import CN, ORG, C, certificate, client, dns, email, name, uri

from mtlsproxy.config.model import Identity
from mtlsproxy.identity.client import Client, client_of
from mtlsproxy.identity.render import UnrenderableIdentity, render

FIELDS = Identity()
XFCC = Identity(forms=("xfcc",))
LEAF = certificate()
CHAIN = (LEAF, certificate(name((CN, "Issuing CA"))), certificate(name((CN, "Root"))))


def headers(rendered: bytes) -> dict[str, str]:
    """Header lines read back as any HTTP/1 recipient does, optional whitespace trimmed (RFC 9112 §5)."""
    assert rendered.endswith(b"\r\n")
    lines = [line.split(b":", 1) for line in rendered[:-2].split(b"\r\n")]
    found = {key.decode(): value.strip(b" \t").decode("ascii") for key, value in lines}
    assert len(found) == len(lines), "a name occurs twice"
    return found


def fields(of: Client, truststore: str = "partners") -> dict[str, str]:
    return headers(render(FIELDS, of, CHAIN, truststore))


def strings(field: str) -> list[str]:
    """An RFC 9651 list of strings, parsed by §4.2.1 and §4.2.5 and nothing else."""
    found, rest = [], field
    while True:
        member = re.match(r'"((?:[\x20-\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"', rest)  # noqa: TID251
        assert member, rest
        found.append(re.sub(r'\\(["\\])', r"\1", member[1]))
        rest = rest[member.end() :]
        if not rest:
            return found
        assert rest.startswith(", ")
        rest = rest[2:]


def pairs(element: str, *, unescape_all: bool = False) -> list[tuple[str, str]]:
    r"""One XFCC element; by Envoy's grammar (only `\"` is an escape) or as readers do that unescape every `\x`."""
    found, position = [], 0
    quoted = r'"((?:[^"\\]|\\.)*)"' if unescape_all else r'"((?:\\"|[^"])*)"'
    while position < len(element):
        pair = re.compile(rf"([A-Za-z]+)=(?:{quoted}|([^,;=\"]*))(?:;|\Z)").match(element, position)
        assert pair, element[position:]
        escapes = r"\\(.)" if unescape_all else r'\\(")'
        value = pair[3] if pair[2] is None else re.sub(escapes, r"\1", pair[2])
        found.append((pair[1], value))
        position = pair.end()
    return found


def test_the_fields_form_is_the_table_of_interfaces_md() -> None:
    leaf = certificate(
        name((ORG, "Org"), (CN, "orders")),
        [
            uri("spiffe://a/b"),
            dns("x.example"),
            email("a@b.example"),
            x509.IPAddress(ip_address("192.0.2.1")),
        ],
        serial=0xBCDEF,
    )
    assert fields(client_of(leaf)) == {
        "X-Client-Verify": "SUCCESS",
        "X-Client-Id": "spiffe://a/b",
        "X-Client-Subject": "CN=orders,O=Org",
        "X-Client-Issuer": "CN=Client CA,O=Example",
        "X-Client-Serial": "0BCDEF",
        "X-Client-Fingerprint": leaf.fingerprint_sha256,
        "X-Client-San": '"URI:spiffe://a/b", "DNS:x.example", "EMAIL:a@b.example", "IP:192.0.2.1"',
        "X-Client-Not-After": "2031-02-03T04:05:06Z",
        "X-Client-Truststore": "partners",
    }


def test_the_prefix_is_the_identitys() -> None:
    found = headers(render(Identity(prefix="X-Partner-"), client(), CHAIN, "t"))
    assert all(key.startswith("X-Partner-") for key in found)


def test_what_is_absent_has_no_header() -> None:
    found = fields(client(subject=x509.Name([])))
    assert not found.keys() & {"X-Client-Id", "X-Client-Subject", "X-Client-San"}
    assert found["X-Client-Verify"] == "SUCCESS"


def test_client_cert_and_chain_are_rfc_9440_without_the_trust_anchor() -> None:
    found = headers(render(Identity(forms=("client_cert", "client_cert_chain")), client(), CHAIN, "t"))
    assert list(found) == ["Client-Cert", "Client-Cert-Chain"]
    for value, expected in zip(found.values(), CHAIN[:2], strict=True):
        assert (value[0], value[-1]) == (":", ":")
        assert b64decode(value[1:-1], validate=True) == expected.der


def test_a_chain_of_several_is_a_list_and_one_of_none_no_header() -> None:
    form = Identity(forms=("client_cert_chain",))
    found = headers(render(form, client(), (LEAF, CHAIN[1], CHAIN[1], CHAIN[2]), "t"))["Client-Cert-Chain"]
    assert [b64decode(member[1:-1]) for member in found.split(", ")] == [CHAIN[1].der] * 2
    assert render(form, client(), (LEAF, CHAIN[2]), "t") == b""


def test_xfcc_is_envoys_format() -> None:
    leaf = certificate(
        name((C, "US"), (CN, "Test Client")), [uri("https://t.example"), dns("a.example"), dns("b.example")]
    )
    value = headers(render(XFCC, client_of(leaf), (leaf, CHAIN[2]), "t"))["X-Forwarded-Client-Cert"]
    start = f'Hash={leaf.fingerprint_sha256};Subject="CN=Test Client,C=US";URI=https://t.example;DNS=a.example;DNS=b.example;Cert="-----BEGIN%20CERTIFICATE-----%0A'
    assert value.startswith(start)
    pem = unquote(dict(pairs(value))["Cert"])
    assert x509.load_pem_x509_certificate(pem.encode()) == leaf.x509


INJECTIONS = [
    'evil";URI=spiffe://t/admin;x="',
    'evil\\";URI=spiffe://t/admin;x=\\"',
    "evil\\",
    'evil"',
    "a,CN=admin",
    "a;CN=admin",
    "a+OU=admin",
    ' "',
    ",By=x;Hash=y",
    "100%",
    "Bjørn",
    "#hash",
    "<a=b>",
]


@pytest.mark.parametrize("common_name", INJECTIONS)
@pytest.mark.parametrize("unescape_all", [False, True])
def test_a_subject_cannot_leave_its_xfcc_value(common_name: str, unescape_all: bool) -> None:
    """Row "value injection": whichever way a reader treats backslashes, there is one Subject and no other pair."""
    subject = name((CN, common_name))
    value = headers(render(XFCC, client(uri("spiffe://t/a"), subject=subject), CHAIN, "t"))["X-Forwarded-Client-Cert"]
    found = pairs(value, unescape_all=unescape_all)
    assert [key for key, _ in found] == ["Hash", "Subject", "URI", "Cert"]
    assert found[2] == ("URI", "spiffe://t/a")
    if not unescape_all:
        assert x509.Name.from_rfc4514_string(unquote(found[1][1])) == subject


@pytest.mark.parametrize(
    ("given_uri", "read"),
    [
        ("https://a/b;c=d,e", "https://a/b;c=d,e"),
        ('https://a/";DNS=admin.example;"', 'https://a/";DNS=admin.example;"'),
        ("https://a/\\", "https://a/%5C"),
        ('https://a/;\\"', 'https://a/;%5C"'),
    ],
)
@pytest.mark.parametrize("unescape_all", [False, True])
def test_a_uri_cannot_leave_its_xfcc_value(given_uri: str, read: str, unescape_all: bool) -> None:
    of = replace(client(), uris=(given_uri,))
    found = pairs(headers(render(XFCC, of, CHAIN, "t"))["X-Forwarded-Client-Cert"], unescape_all=unescape_all)
    assert [key for key, _ in found] == ["Hash", "Subject", "URI", "Cert"]
    assert found[2][1] == read


@pytest.mark.parametrize("common_name", INJECTIONS)
def test_a_san_list_reads_back_whatever_is_in_the_names(common_name: str) -> None:
    if common_name.isascii():
        texts = (("DNS", common_name), ("URI", 'x", "URI:spiffe://t/admin'))
        of = replace(client(), sans=texts)
        assert strings(fields(of)["X-Client-San"]) == [f"{kind}:{text}" for kind, text in texts]


@pytest.mark.parametrize(
    ("common_name", "rendered", "principal"),
    [
        ("Bjørn 100%", "CN=Bj%C3%B8rn 100%25", "Bj%C3%B8rn 100%25"),
        (" both ", r"CN=\20both\20", "%20both%20"),
        ("   ", r"CN=\20 \20", "%20%20%20"),
        (" ", r"CN=\20", "%20"),
        ("a\\ b", r"CN=a\\ b", "a\\ b"),
        ("a, b", r"CN=a\, b", "a, b"),
        ("日本", "CN=%E6%97%A5%E6%9C%AC", "%E6%97%A5%E6%9C%AC"),
    ],
)
def test_names_are_rfc_4514_and_percent_encoded(common_name: str, rendered: str, principal: str) -> None:
    found = fields(client(subject=name((CN, common_name))))
    assert found["X-Client-Subject"] == rendered
    assert found["X-Client-Id"] == principal


@pytest.mark.parametrize("control", ["\0", "\r\nX-Client-Id: admin", "\n", "\t", "\x7f", "\x85", "\x1b[2J"])
@pytest.mark.parametrize("forms", [("fields",), ("xfcc",)])
def test_control_characters_are_refused_wherever_they_are(control: str, forms: tuple[str, ...]) -> None:
    identity = Identity.model_validate({"forms": list(forms)})
    text = "a" + control
    for odd in (replace(client(), subject="CN=" + text), replace(client(), uris=(text,), sans=(("URI", text),))):
        with pytest.raises(UnrenderableIdentity, match="control characters"):
            render(identity, odd, CHAIN, "t")


def test_an_escaped_control_character_is_one_too() -> None:
    with pytest.raises(UnrenderableIdentity, match="control characters"):
        fields(replace(client(), subject=r"CN=a\00b"))


@pytest.mark.parametrize("text", ["\ud800", "é"])
def test_a_san_outside_ascii_and_half_a_surrogate_pair_are_refused(text: str) -> None:
    with pytest.raises(UnrenderableIdentity):
        fields(replace(client(), sans=(("DNS", text),)))
    with pytest.raises(UnrenderableIdentity):
        fields(replace(client(), subject="CN=\ud800"))


ANY = st.text(max_size=20)


@given(common_name=st.text(min_size=1, max_size=20), san=ANY, principal=ANY)
@settings(max_examples=200, deadline=None)
def test_whatever_the_names_no_line_breaks_out(common_name: str, san: str, principal: str) -> None:
    """Either refused, or printable ASCII, one header a name, and the same names read back."""
    subject = "CN=" + "".join("\\" + c if c in ' "\\+,;<>#=' else c for c in common_name)
    of = replace(client(), subject=subject, sans=(("URI", san),), uris=(san,), common_names=(principal,))
    identity = Identity(forms=("fields", "xfcc"), principal=("common_name",))
    try:
        rendered = render(identity, of, CHAIN, "t")
    except UnrenderableIdentity:
        return
    assert not re.search(rb"[^\x20-\x7e]", rendered.replace(b"\r\n", b""))
    found = headers(rendered)
    assert strings(found["X-Client-San"]) == ["URI:" + san]
    assert unquote(found.get("X-Client-Id", "")) == principal
    element = pairs(found["X-Forwarded-Client-Cert"])
    assert [key for key, _ in element] == ["Hash", "Subject", "URI", "Cert"]
    assert x509.Name.from_rfc4514_string(unquote(element[1][1])) == name((CN, common_name))
