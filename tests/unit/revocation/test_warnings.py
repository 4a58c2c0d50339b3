"""What the library finds odd in lists and OCSP responses is no business of stderr, which is the log's."""

import subprocess
import sys
import threading
import warnings
from types import SimpleNamespace

import pytest
from cryptography import x509
from cryptography.x509 import ocsp
from tests.unit.revocation.build import NOW, Authority, assemble, authority, leaf, tlv
from tests.unit.revocation.responder import by_hand, single

from mtlsproxy.revocation.crl import parse_crl
from mtlsproxy.revocation.errors import OcspError
from mtlsproxy.revocation.ocsp import read_response
from mtlsproxy.revocation.policy import OcspPolicy

ROOT = authority()
LEAF = leaf(ROOT, serial=5)
GERMANY = tlv(0x30, tlv(0x31, tlv(0x30, bytes.fromhex("0603550406"), tlv(0x13, b"Germany"))))
ODD = Authority(ROOT.key, SimpleNamespace(subject_der=GERMANY))
LIST = assemble(ODD, None)
RESPONSE = by_hand(ODD, single(LEAF, ROOT))


def read() -> None:
    assert parse_crl(LIST, "odd.crl").issuer == "C=Germany"
    with pytest.raises(OcspError, match="signed neither by"):
        read_response(RESPONSE, LEAF, ROOT.certificate, None, NOW, OcspPolicy(enabled=True))


def test_the_library_finds_both_odd() -> None:
    """Or the tests below claim nothing."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.resetwarnings()
        warnings.simplefilter("always")
        _ = x509.load_der_x509_crl(LIST).issuer, ocsp.load_der_ocsp_response(RESPONSE).responder_name
    assert len(seen) == 2


def test_they_are_read_where_every_warning_is_an_error() -> None:
    read()


@pytest.mark.parametrize("option", ["error", "always"])
def test_a_process_that_reads_them_prints_nothing(option: str) -> None:
    code = (
        "import sys; from mtlsproxy.revocation.crl import parse_crl\n"
        "print(parse_crl(bytes.fromhex(sys.stdin.read()), 'odd.crl').issuer)"
    )
    done = subprocess.run(
        [sys.executable, "-W", option, "-c", code],
        input=LIST.hex(),
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "C=Germany\n", "")


def test_threads_that_read_them_leave_the_filters_of_others_alone() -> None:
    """`catch_warnings` in two threads at a time can put back the wrong ones, for good."""
    read()
    before = list(warnings.filters)
    seen: list[bool] = []

    def work() -> None:
        for _ in range(30):
            read()
            seen.append(list(warnings.filters) == before)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [True] * 120
    assert warnings.filters == before
