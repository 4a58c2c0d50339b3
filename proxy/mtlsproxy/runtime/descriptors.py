"""File descriptors for as many connections as the configuration allows: the usual soft limit is for a thousand."""

import logging
import resource

from mtlsproxy.config.model import Config

_BESIDES = 256
"""For logs, the admin, listeners, look-ups and what else is open."""

log = logging.getLogger(__name__)


def wanted(config: Config, processes: int) -> int:
    """How many one of `processes` may come to need: its share of clients, and an upstream connection for each."""
    clients = sum(-(-listener.limits.max_connections // processes) for listener in config.listeners)
    servers = sum(upstream.max_connections * len(upstream.servers) for upstream in config.upstreams.values())
    return clients + min(clients, servers) + _BESIDES


def make_room(config: Config, processes: int) -> str:
    """Raise the soft limit as far as is needed and allowed; what is still lacking, in a sentence, or ""."""
    need = wanted(config, processes)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < need:
        soft = need if hard == resource.RLIM_INFINITY else min(need, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY or soft >= need:
        return ""
    return (
        f"limits.max_connections may need {need} file descriptors, and {soft} are allowed: connections beyond that "
        f"wait; raise the limit (LimitNOFILE= in systemd, ulimits in containers) or lower max_connections"
    )
