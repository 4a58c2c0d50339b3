"""What libssl can do and Python's `ssl` cannot ask for: CA names, the session cache, the verification purpose.

The one module that touches libssl by itself. It finds the `SSL_CTX *` behind the object header of
`_ssl._SSLContext`, and proves it before first use: aligned, inside a writable mapping, and with the same options and
verify mode that Python reports, before and after a change. Where the proof fails (static builds, other
implementations) `available()` says why, and settings that need it are configuration errors. A pointer is never kept:
it would outlive its context undetectably.
"""

import ctypes
import functools
import ssl
from collections.abc import Sequence

_SSL_CTRL_GET_TICKET_KEYS = 58
_SSL_CTRL_SET_TICKET_KEYS = 59
_SSL_CTRL_SET_SESS_CACHE_MODE = 44
_SSL_CTRL_GET_SESS_CACHE_MODE = 45
_X509_PURPOSE_ANY = 7


class NativeUnavailable(Exception):
    """libssl cannot be reached here; `detail` says why."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


@functools.cache
def _library() -> ctypes.CDLL:
    import _ssl

    file = getattr(_ssl, "__file__", None)
    if file is None:
        raise NativeUnavailable("the ssl module is built into this Python")
    library = ctypes.CDLL(file)
    p, i, n = ctypes.c_void_p, ctypes.c_int, ctypes.c_long
    signatures: dict[str, tuple[object, list[object]]] = {
        "SSL_CTX_get_options": (ctypes.c_uint64, [p]),
        "SSL_CTX_get_verify_mode": (i, [p]),
        "SSL_CTX_get_num_tickets": (ctypes.c_size_t, [p]),
        "SSL_CTX_ctrl": (n, [p, i, n, p]),
        "SSL_CTX_set_client_CA_list": (None, [p, p]),
        "SSL_CTX_get0_param": (p, [p]),
        "X509_VERIFY_PARAM_set_purpose": (i, [p, i]),
        "OPENSSL_sk_new_null": (p, []),
        "OPENSSL_sk_push": (i, [p, p]),
        "d2i_X509_NAME": (p, [p, ctypes.POINTER(ctypes.c_char_p), n]),
        "X509_NAME_free": (None, [p]),
        "ERR_clear_error": (None, []),
    }
    for name, (result, arguments) in signatures.items():
        try:
            function = getattr(library, name)
        except AttributeError:
            raise NativeUnavailable(f"libssl has no {name}") from None
        function.restype, function.argtypes = result, arguments
    return library


def _pointer(context: ssl.SSLContext) -> int:
    # The structure is `PyObject_HEAD; SSL_CTX *ctx; …` in every CPython since 3.6.
    return ctypes.c_void_p.from_address(id(context) + object.__basicsize__).value or 0


def _writable(address: int) -> bool:
    with open("/proc/self/maps") as maps:  # noqa: PTH123 - /proc, read once at start
        for line in maps:
            span, mode = line.split(" ", 2)[:2]
            low, high = (int(part, 16) for part in span.split("-"))
            if low <= address < high:
                return mode.startswith("rw")
    return False


@functools.cache
def unavailable_because() -> str | None:
    """None when libssl can be reached; else why not. Proved once a process, on a context of its own."""
    try:
        library = _library()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        pointer = _pointer(context)
        if not pointer or pointer % 8 or not _writable(pointer):
            return "the SSL_CTX is not where CPython keeps it"
        for tickets, mode in ((2, ssl.CERT_NONE), (5, ssl.CERT_REQUIRED), (0, ssl.CERT_OPTIONAL)):
            context.num_tickets = tickets
            context.verify_mode = mode
            expected = {ssl.CERT_NONE: 0, ssl.CERT_OPTIONAL: 1, ssl.CERT_REQUIRED: 3}[mode]
            seen = (
                library.SSL_CTX_get_num_tickets(pointer),
                library.SSL_CTX_get_verify_mode(pointer),
                library.SSL_CTX_get_options(pointer) & 0xFFFFFFFF,
            )
            if seen != (tickets, expected, int(context.options) & 0xFFFFFFFF):
                return "libssl and Python disagree about a context"
    except NativeUnavailable as error:
        return error.detail
    except (ImportError, OSError, AttributeError) as error:
        return str(error)
    return None


def _context_pointer(context: ssl.SSLContext) -> int:
    reason = unavailable_because()
    if reason is not None:
        raise NativeUnavailable(reason)
    return _pointer(context)


def turn_session_cache_off(context: ssl.SSLContext) -> None:
    """No TLS 1.2 session is kept or looked up: OP_NO_TICKET alone still resumes by session id."""
    pointer = _context_pointer(context)
    library = _library()
    library.SSL_CTX_ctrl(pointer, _SSL_CTRL_SET_SESS_CACHE_MODE, 0, None)
    if library.SSL_CTX_ctrl(pointer, _SSL_CTRL_GET_SESS_CACHE_MODE, 0, None) != 0:
        raise NativeUnavailable("libssl kept its session cache")


def set_ticket_keys(context: ssl.SSLContext, keys: bytes) -> None:
    """Encrypt session tickets with `keys` (80 bytes) from now on; tickets of others are not accepted any more."""
    pointer = _context_pointer(context)
    library = _library()
    written, read = ctypes.create_string_buffer(keys, len(keys)), ctypes.create_string_buffer(len(keys))
    if library.SSL_CTX_ctrl(pointer, _SSL_CTRL_SET_TICKET_KEYS, len(keys), written) != 1:
        raise NativeUnavailable("libssl does not take the ticket keys")
    library.SSL_CTX_ctrl(pointer, _SSL_CTRL_GET_TICKET_KEYS, len(keys), read)
    if read.raw != keys:
        raise NativeUnavailable("libssl did not keep the ticket keys")


def advertise_ca_names(context: ssl.SSLContext, names: Sequence[bytes]) -> None:
    """Send `names` (DER Names) as the acceptable certificate_authorities (RFC 8446 §4.2.4, RFC 5246 §7.4.4)."""
    pointer = _context_pointer(context)
    library = _library()
    stack = library.OPENSSL_sk_new_null()
    if not stack:
        raise NativeUnavailable("libssl is out of memory")
    for der in dict.fromkeys(names):
        name = library.d2i_X509_NAME(None, ctypes.byref(ctypes.c_char_p(der)), len(der))
        if not name or not library.OPENSSL_sk_push(stack, name):
            library.ERR_clear_error()  # else the next call of the ssl module would raise it
            raise NativeUnavailable("libssl does not read a trust anchor's name")
    library.SSL_CTX_set_client_CA_list(pointer, stack)  # takes ownership of the stack and of its names


def accept_any_purpose(context: ssl.SSLContext) -> None:
    """Leave extended key usage to our own validator, for policies that OpenSSL's fixed clientAuth purpose refuses."""
    pointer = _context_pointer(context)
    library = _library()
    if library.X509_VERIFY_PARAM_set_purpose(library.SSL_CTX_get0_param(pointer), _X509_PURPOSE_ANY) != 1:
        raise NativeUnavailable("libssl does not take the purpose")
