"""Private and public keys: whose they are, never what they are."""

from hashlib import sha256

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_private_key,
    load_der_public_key,
    load_pem_private_key,
    load_pem_public_key,
    load_ssh_private_key,
)

from mtlsproxy.anatomy.effort import TooMuchWork, require_modest
from mtlsproxy.anatomy.items import KeyItem, Origin
from mtlsproxy.anatomy.pem import Block
from mtlsproxy.anatomy.shape import Shape
from mtlsproxy.x509.certificate import key_name

FORMS = {
    "PRIVATE KEY": "PKCS#8",
    "ENCRYPTED PRIVATE KEY": "PKCS#8",
    "RSA PRIVATE KEY": "PKCS#1",
    "EC PRIVATE KEY": "SEC 1",
    "DSA PRIVATE KEY": "OpenSSL DSA",
    "OPENSSH PRIVATE KEY": "OpenSSH",
}
"""PEM label → the format's name."""

PUBLIC_FORMS = {"PUBLIC KEY": "SubjectPublicKeyInfo", "RSA PUBLIC KEY": "PKCS#1"}
_SHAPES = {
    Shape.PKCS8: "PKCS#8",
    Shape.ENCRYPTED_PKCS8: "PKCS#8",
    Shape.PKCS1: "PKCS#1",
    Shape.SEC1: "SEC 1",
}
_REFUSED = (ValueError, TypeError, UnsupportedAlgorithm)


class BadKey(ValueError):
    """A key that cannot be read; says why, and how to mend it."""


def spki_of(key: object) -> str | None:
    """SHA-256 of the public key as SubjectPublicKeyInfo, in one encoding for all; None for what is no such key."""
    try:
        der: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined]
    except (AttributeError, *_REFUSED):
        return None
    return sha256(der).hexdigest()


def private_item(origin: Origin, form: str, private: object, *, encrypted: bool) -> KeyItem:
    """What may be told of a private key. Raises BadKey for one that makes no signatures that a certificate needs."""
    try:
        public = private.public_key()  # type: ignore[attr-defined]
    except (AttributeError, *_REFUSED) as error:
        raise BadKey("a private key of a kind that no certificate here has") from error
    return KeyItem(origin, form, "private", encrypted, key_name(public) or type(public).__name__, spki_of(public))


def read_pem_key(origin: Origin, block: Block, password: bytes | None) -> KeyItem:
    """A private key of any label of FORMS. Raises BadKey."""
    form = FORMS[block.label]
    load = load_ssh_private_key if form == "OpenSSH" else load_pem_private_key
    encrypted = block.label.startswith("ENCRYPTED") or block.is_legacy_encrypted
    if encrypted and password is None:
        return _locked(origin, form)
    if block.label.startswith("ENCRYPTED"):
        _require_modest(block.der(), form)
    try:
        return private_item(origin, form, load(block.text, password if encrypted else None), encrypted=encrypted)
    except _REFUSED as error:
        if form == "OpenSSH" and isinstance(error, TypeError):  # it wants a password
            return _read_locked_ssh(origin, block, password)
        raise BadKey(_why(form, error, encrypted=encrypted)) from error


def _read_locked_ssh(origin: Origin, block: Block, password: bytes | None) -> KeyItem:
    """OpenSSH's label does not say that a key is encrypted."""
    if password is None:
        return _locked(origin, "OpenSSH")
    try:
        return private_item(origin, "OpenSSH", load_ssh_private_key(block.text, password), encrypted=True)
    except _REFUSED as error:
        raise BadKey(_why("OpenSSH", error, encrypted=True)) from error


def read_der_key(origin: Origin, shape: Shape, data: bytes, password: bytes | None) -> KeyItem:
    """Raises BadKey."""
    if shape is Shape.PUBLIC_KEY:
        return read_public_key(origin, data, "SubjectPublicKeyInfo")
    encrypted = shape is Shape.ENCRYPTED_PKCS8
    if encrypted and password is None:
        return _locked(origin, _SHAPES[shape])
    if encrypted:
        _require_modest(data, _SHAPES[shape])
    try:
        private = load_der_private_key(data, password if encrypted else None)
    except _REFUSED as error:
        raise BadKey(_why(_SHAPES[shape], error, encrypted=encrypted)) from error
    return private_item(origin, _SHAPES[shape], private, encrypted=encrypted)


def read_public_key(origin: Origin, data: bytes, form: str) -> KeyItem:
    """data: PEM or DER. Raises BadKey."""
    try:
        public = load_pem_public_key(data) if data.startswith(b"-----") else load_der_public_key(data)
    except _REFUSED as error:
        raise BadKey(f"a public key ({form}) was expected: {error}") from error
    return KeyItem(origin, form, "public", False, key_name(public) or type(public).__name__, spki_of(public))


def _require_modest(data: bytes, form: str) -> None:
    try:
        require_modest(data)
    except TooMuchWork as error:
        raise BadKey(f"a private key ({form}) that is not opened: {error}") from error


def _locked(origin: Origin, form: str) -> KeyItem:
    return KeyItem(origin, form, "private", True, None, None)


def _why(form: str, error: Exception, *, encrypted: bool) -> str:
    """The library's words may quote what it read: they are left out where that is a secret."""
    if isinstance(error, UnsupportedAlgorithm):
        mend = "; convert it with ssh-keygen -p -m PKCS8 -f FILE" if form == "OpenSSH" else ""
        return f"a private key ({form}) with an algorithm that is not supported{mend}"
    if encrypted:
        return f"a private key ({form}) that the password does not open: give the right one with --password-file"
    return f"a private key ({form}) was expected, and this is none that can be read: it is damaged, or of another kind"
