"""What a revocation list or an OCSP response that cannot be used raises."""


class CrlError(Exception):
    """A CRL that is malformed, unsupported or not its issuer's. `detail` is one sentence that names the source."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class OcspError(Exception):
    """An OCSP response that answers nothing, and why: `detail` is one sentence."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail
