"""Attacks through the admin's address on everybody else: its connections share the listeners' file descriptors."""

import contextlib
import socket
import ssl
from pathlib import Path

from tests.integration.clients import PATIENCE, tls
from tests.integration.harness import Tree, running_command

FILES = 256


def test_half_heads_at_the_admin_take_no_place_of_clients(config: Tree, honest: ssl.SSLContext, tmp_path: Path) -> None:
    """As many as there are file descriptors: newcomers are served, and scrapes too."""
    with running_command(config, tmp_path, FILES) as proxy, contextlib.ExitStack() as stack:
        for _ in range(FILES + 50):
            raw = stack.enter_context(socket.create_connection(("127.0.0.1", proxy.admin_port), PATIENCE))
            with contextlib.suppress(ConnectionError):
                raw.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nX: ")
        for _ in range(3):
            with tls(proxy.port(), honest) as newcomer:
                assert newcomer.get().status == 200
        assert proxy.series("connections_total") == {("internal",): 3}
        files = len(list(Path(f"/proc/{proxy.process.pid}/fd").iterdir()))
        assert files < FILES // 2
        assert not [line for line in proxy.messages() if line["level"] == "error"]
