"""What every part of the development CA raises, and what it makes of cryptography's exceptions."""

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm


class PkiError(Exception):
    """Something about the PKI's files or the request is wrong. The message names what, and how to mend it."""


UNREADABLE = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
"""What cryptography raises for a certificate or request that it cannot make sense of."""
