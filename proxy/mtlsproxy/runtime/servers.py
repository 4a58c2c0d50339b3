"""TLS to the servers of upstreams: what of it comes from the configuration and its files."""

from collections.abc import Mapping
from datetime import datetime

from mtlsproxy.config.model import Upstream, UpstreamServer
from mtlsproxy.runtime.report import Report
from mtlsproxy.tls.client_context import ClientContext, ClientSettings
from mtlsproxy.tls.credentials import Credential, CredentialError, load_credential
from mtlsproxy.verdict.trust import Trust
from mtlsproxy.x509.hostname import InvalidServerName, reference_identifier


def servers_key(upstream: str) -> str:
    """What the trust in an upstream's servers is called beside the truststores, whose names have no colon."""
    return f"upstream:{upstream}"


def server_name(upstream: Upstream, server: UpstreamServer) -> str:
    """What an https server has to be called in its certificate."""
    return (upstream.tls and upstream.tls.server_name) or server.host


def check_names(name: str, upstream: Upstream, report: Report) -> None:
    """No certificate can be for a name such as `my_server`: nobody would ever be let through."""
    for number, server in enumerate(upstream.servers):
        if server.scheme != "https":
            continue
        named = upstream.tls is not None and upstream.tls.server_name is not None
        path = f"upstreams.{name}.tls.server_name" if named else f"upstreams.{name}.servers[{number}].url"
        try:
            reference_identifier(server_name(upstream, server))
        except InvalidServerName as error:
            report.error(path, f"{error}, as a certificate could have: set tls.server_name to one that its has")


def load_client_credentials(upstreams: Mapping[str, Upstream], report: Report, at: datetime) -> dict[str, Credential]:
    """This proxy's own certificates, by upstream."""
    out = {}
    for name, upstream in upstreams.items():
        tls, path = upstream.tls, f"upstreams.{name}.tls"
        if tls is None or tls.certificate is None or tls.private_key is None:
            continue
        try:
            out[name] = load_credential(tls.certificate, tls.private_key, tls.private_key_password_file, at, "client")
        except CredentialError as error:
            report.error(f"{path}.{error.key}", error.detail)
            continue
        for warning in out[name].warnings:
            report.warn(f"{path}.certificate", warning)
    return out


def make_client_context(upstream: Upstream, trust: Trust, credential: Credential | None) -> ClientContext:
    """Raises ContextError; its key is below `upstreams.NAME.tls`."""
    return ClientContext(ClientSettings(trust.truststore.anchors, credential, (upstream.protocol,)))
