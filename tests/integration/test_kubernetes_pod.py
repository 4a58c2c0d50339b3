"""A pod as Kubernetes would run it: arguments, probes, and volumes as kubelet lays them out and changes them."""

import contextlib
import os
import signal
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest
import yaml
from tests.integration.clients import PATIENCE, Connection, client_context, connected
from tests.integration.conftest import Material
from tests.integration.harness import COMMAND, Tree, eventually, free_port
from tests.integration.upstream import RecordingUpstream
from tests.unit.deploy.rendering import needs_kubectl, one, render

pytestmark = needs_kubectl

MOUNTED = "/etc/mtlsproxy/"


class Volume:
    """A ConfigMap or Secret in a pod: files are links into `..data`, which is a link that is swapped (AtomicWriter)."""

    def __init__(self, folder: Path, files: dict[str, bytes], mode: int) -> None:
        self.files, self._folder, self._mode, self._numbers = files, folder, mode, count()
        folder.mkdir(parents=True)
        self.write()
        for name in files:
            (folder / name).symlink_to(Path("..data") / name)

    def write(self) -> None:
        fresh = self._folder / f"..2026_{next(self._numbers)}"
        fresh.mkdir()
        for name, data in self.files.items():
            (fresh / name).write_bytes(data)
            (fresh / name).chmod(self._mode)
        link = self._folder / "..data_tmp"
        link.symlink_to(fresh.name)
        link.replace(self._folder / "..data")


@dataclass
class Pod:
    process: subprocess.Popen[bytes]
    volumes: dict[str, Volume]
    ports: dict[str, int]
    container: Tree
    log: Path

    def probe(self, name: str) -> bool:
        """As kubelet asks: any status from 200 to 399 is well."""
        get = self.container[name]["httpGet"]
        url = f"http://127.0.0.1:{self.ports[get['port']]}{get['path']}"
        try:
            with urllib.request.urlopen(url, timeout=PATIENCE):
                return True
        except (urllib.error.HTTPError, ConnectionError, urllib.error.URLError):
            return False

    def ask(self, material: Material, name: str) -> int:
        """The status of an answer to the development PKI's client `name`."""
        context = client_context(material.root, material.dev_client(name, f"DNS:{name}.test"))
        with context.wrap_socket(connected(self.ports["mtls"]), server_hostname="proxy.test") as sock:
            return Connection(sock).get("/orders/1").status


def _own(material: Material) -> dict[str, bytes]:
    pki = material.folder / "pki"
    return {
        "tls/tls.crt": material.server_certificate.read_bytes(),
        "tls/tls.key": material.server_key.read_bytes(),
        "trust/client-ca.pem": (pki / "client-ca.pem").read_bytes(),
        "trust/client-ca.crl.pem": (pki / "crls" / "client-ca.pem").read_bytes(),
        "trust/deny.yaml": b"[]\n",
    }


def _data(document: Tree, own: dict[str, bytes]) -> dict[str, bytes]:
    if document["kind"] == "Secret":
        return {name: own[f"tls/{name}"] for name in document["data"]}
    return {name: text.encode() for name, text in document["data"].items()}


def _here(text: bytes, root: Path, ports: dict[str, int], upstream: str) -> bytes:
    """The configuration on this machine: its ports, its folder for state, an upstream, a shorter delay."""
    config = yaml.safe_load(text)
    config["listeners"][0]["bind"] = f"127.0.0.1:{ports['mtls']}"
    config["admin"] = {"bind": f"127.0.0.1:{ports['admin']}", "metrics_bind": f"127.0.0.1:{ports['metrics']}"}
    config["state_dir"] = f"{root}{config['state_dir']}"
    config["routes"][0]["allow"] = [{"dns": "*.test"}]
    config["upstreams"]["orders"] = {"servers": [{"url": upstream}]}
    config["shutdown"] = {"delay": "2s", "drain": "5s"}
    return yaml.safe_dump(config).encode()


@pytest.fixture
def pod(material: Material, upstream: RecordingUpstream, tmp_path: Path) -> Iterator[Pod]:
    own = _own(material)
    documents = render(tmp_path, own)
    spec = one(documents, "Deployment")["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    root = tmp_path / "pod"
    ports = {name: free_port() for name in ("mtls", "metrics", "admin")}
    mounts = {mount["name"]: f"{root}{mount['mountPath']}" for mount in container["volumeMounts"]}
    volumes = {}
    for volume in spec["volumes"]:
        folder = Path(mounts[volume["name"]])
        if "emptyDir" in volume:
            folder.mkdir(parents=True)
            folder.chmod(0o2777)  # as kubelet makes it with fsGroup
            continue
        kind, source = ("Secret", volume["secret"]) if "secret" in volume else ("ConfigMap", volume["configMap"])
        files = _data(one(documents, kind, source.get("secretName") or source["name"]), own)
        if "mtlsproxy.yaml" in files:
            files["mtlsproxy.yaml"] = _here(files["mtlsproxy.yaml"], root, ports, upstream.url)
        volumes[volume["name"]] = Volume(folder, files, source.get("defaultMode", 0o644))
    arguments = [argument.replace(MOUNTED, f"{root}{MOUNTED}") for argument in container["args"]]
    log = tmp_path / "log"
    with log.open("wb") as out:
        process = subprocess.Popen([COMMAND, *arguments], stdout=out, stderr=out)
    running = Pod(process, volumes, ports, container, log)
    try:
        eventually(lambda: process.poll() is not None or running.probe("readinessProbe"), 60)
        assert process.poll() is None, log.read_text()
        yield running
    finally:
        process.kill()
        process.wait(PATIENCE)


def test_it_serves_takes_changed_volumes_and_ends_gracefully(
    pod: Pod, material: Material, upstream: RecordingUpstream
) -> None:
    assert all(pod.probe(name) for name in ("startupProbe", "readinessProbe", "livenessProbe"))
    assert pod.ask(material, "kube-alice") == 200
    if os.geteuid() == 0:  # the key is root's then, as in a pod: its group may read it
        assert "can be read by others" not in pod.log.read_text()

    # A ConfigMap that denies alice, swapped in while the pod runs.
    pod.volumes["trust"].files["deny.yaml"] = b"- dns: kube-alice.test\n"
    pod.volumes["trust"].write()
    eventually(lambda: pod.ask(material, "kube-alice") == 403)
    assert pod.ask(material, "kube-bob") == 200

    # SIGTERM: not ready any more, alive, and who still comes is served; then the end, before kubelet kills it.
    pod.process.send_signal(signal.SIGTERM)
    eventually(lambda: not pod.probe("readinessProbe"))
    assert pod.probe("livenessProbe")
    assert pod.ask(material, "kube-carol") == 200
    assert pod.process.wait(30) == 0


def test_it_is_not_ready_and_alive_while_it_can_let_nobody_in(pod: Pod, material: Material) -> None:
    """A restart would not help; and the pod must stay, so that somebody can look at it."""
    pod.volumes["config"].files["mtlsproxy.yaml"] = (
        pod.volumes["config"]
        .files["mtlsproxy.yaml"]
        .replace(b"../trust/client-ca.crl.pem", f"http://127.0.0.1:{free_port()}/nobody.crl".encode())
    )
    pod.volumes["config"].write()
    eventually(lambda: not pod.probe("readinessProbe"))
    assert pod.probe("livenessProbe")
    with contextlib.suppress(ssl.SSLError, ConnectionError):
        assert pod.ask(material, "kube-dave") == 403
