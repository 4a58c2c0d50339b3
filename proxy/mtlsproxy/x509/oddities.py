"""What the library finds odd in peers' certificates, lists and OCSP responses is not for stderr, which is the log's."""

import warnings

_ODDITIES = (
    "Attribute's length must be ",  # a country of seven letters: names are compared as they are
    "Parsed a serial number which wasn't positive ",  # to be handled gracefully (RFC 5280 §4.1.2.2)
    "Invalid ASN.1 .* in the explicit text ",  # texts of policies are never shown
    "The parsed certificate contains a NULL parameter ",  # cryptography before 50
    "PKCS#(7 certificates|12 bundle) could not be parsed as DER",  # openssl does not sort sets, and others write BER
    "Diffie-Hellman over finite fields ",  # the key check refuses such a key by name
)


def _silence() -> None:
    warnings.filterwarnings("ignore", "|".join(_ODDITIES), UserWarning)


_silence()
_SILENCED = list(warnings.filters[:1])


def silence_oddities() -> None:
    """Make sure of it, for the process's life: others, as pytest, may have put filters in front since.

    NOTE: `warnings.catch_warnings` swaps the filters of all threads, and what peers send is parsed in several.
    """
    if list(warnings.filters[:1]) != _SILENCED:
        _silence()
