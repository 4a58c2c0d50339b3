"""What a revocation list that cannot be used raises."""


class CrlError(Exception):
    """A CRL that is malformed, unsupported or not its issuer's. `detail` is one sentence that names the source."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail
