"""How much the lists of one host may take together: a CA names as many distribution points as it likes, and each list
may have `max_size`. Pure."""

from mtlsproxy.fetch.accept import Refusal, Unfit
from mtlsproxy.fetch.slots import host_of

LISTS_OF_FULL_SIZE = 4
"""That one host may have given us for certificates, or as many smaller ones as take no more: on the disk are a copy and
an index of each, and of the one before."""


class Budget:
    """Octets in use, by host and the key of the list."""

    def __init__(self) -> None:
        self._used: dict[str, dict[str, int]] = {}

    def take(self, url: str, key: str, size: int, max_size: int) -> None:
        """Count `size` octets for the list of `key`, in place of those it had. Raises Unfit with nothing changed."""
        host = host_of(url)
        used = self._used.setdefault(host, {})
        others = sum(used.values()) - used.get(key, 0)
        limit = LISTS_OF_FULL_SIZE * max_size
        if others + size > limit:
            text = (
                f"{url}: {size} octets, beside {others} of other lists of {host}; together {limit} are taken of a host "
                f"that certificates name ({LISTS_OF_FULL_SIZE} times revocation.fetch.max_size)"
            )
            raise Unfit(Refusal.TOO_MUCH, text)
        used[key] = size

    def put_back(self, url: str, key: str, size: int) -> None:
        """As it was before a `take` of what is not used after all."""
        self._used.setdefault(host_of(url), {})[key] = size

    def release(self, url: str, key: str) -> None:
        """The list of `key` is no longer kept fetched."""
        used = self._used.get(host_of(url), {})
        used.pop(key, None)
        if not used:
            self._used.pop(host_of(url), None)
