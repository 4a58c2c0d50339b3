"""The chains that clients presented in full handshakes: a resumed session has its leaf alone (RFC 8446 §4.6.1)."""

MAX_CHAINS = 4096
MAX_CHAIN_BYTES = 16 * 1024
"""What clients send is kept within these bounds; without its chain a client shakes hands in full again."""


class Chains:
    """By leaf, as DER; the oldest makes room for the newest."""

    __slots__ = ("_chains",)

    def __init__(self) -> None:
        self._chains: dict[bytes, tuple[bytes, ...]] = {}

    def remember(self, presented: tuple[bytes, ...]) -> bool:
        """presented: of an accepted full handshake, leaf first. Whether it was not known."""
        if len(presented) < 2 or sum(map(len, presented)) > MAX_CHAIN_BYTES:
            return False
        before = self._chains.pop(presented[0], None)
        self._chains[presented[0]] = presented
        if len(self._chains) > MAX_CHAINS:
            del self._chains[next(iter(self._chains))]
        return before != presented

    def restore(self, presented: tuple[bytes, ...]) -> tuple[bytes, ...]:
        """The chain of a resumed session's leaf; the leaf alone where it is not known."""
        return self._chains.get(presented[0], presented) if len(presented) == 1 else presented
