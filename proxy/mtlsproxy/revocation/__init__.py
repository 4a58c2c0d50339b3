"""Revocation lists and OCSP answers to a decision with its evidence (RFC 5280 §5, §6.3; RFC 6960).

    decide       all sources together, and how they combine: begin here
    from_crls    what a certificate's lists say; from_ocsp: what OCSP says; answer: the shape of both
    crlset       the lists of a truststore by the key that signed them; combined: a list and its delta
    crl          one list, parsed; index, entry, signature, pss: its parts; indexfile: the same, mapped from a file
    ocsp         requests and responses; ocsp_signer: who may answer; ocsp_answers: what is known, and its look-up;
                 ocsp_names: how certificates are named
    policy       what a truststore demands
    wording      times and certificates in evidence; errors: what lists and responses of no use raise

Pure but for `sources`, which reads files: fetching is another room's.
"""
