"""What is in files of certificates, requests, CRLs and keys, as certificate articles teach it (`mtlsproxy inspect`).

    items       what a file can hold, and what is known of each
    pem         PEM blocks with the lines that they stand on
    shape       which of all these a DER file is, by its outermost elements
    reading     bytes to items, or to a problem that says what was expected
    effort      what a file would have us work before it can be read
    keys        private and public keys: whose they are, never what they are
    extensions  extensions in words; DV, OV and EV by their policies
    algorithms  names of signature algorithms
    lifetime    when something ends, in words
    roles       what a certificate is for, and what verifiers will hold against it
    relations   who signed what, which key belongs to which certificate, the order of a chain

All of it is pure: bytes and a time in, facts out.
"""
