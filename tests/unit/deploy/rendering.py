"""The Kubernetes files as `kubectl apply -k` would send them: the example overlay, with files of the caller's in it."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

Tree = dict[str, Any]

FOLDER = Path(__file__).parents[3] / "deploy" / "kubernetes"
OVERLAY = "overlays/example"
OWN = ("tls/tls.crt", "tls/tls.key", "trust/client-ca.pem", "trust/client-ca.crl.pem", "trust/deny.yaml")
"""What the overlay leaves to who uses it."""


def missing_tool() -> str:
    """Why nothing can be rendered here; empty where it can."""
    if shutil.which("kubectl") is None:
        return "kubectl (Debian: kubernetes-client) is not installed"
    said = subprocess.run(["kubectl", "version", "--client", "-o", "json"], capture_output=True, text=True)
    minor = int(json.loads(said.stdout)["clientVersion"]["minor"].rstrip("+"))
    return "" if minor >= 21 else f"the kustomize in kubectl 1.{minor} does not know patches: 1.21 or later does"


needs_kubectl = pytest.mark.skipif(missing_tool() != "", reason=missing_tool() or "kubectl is there")


def render(folder: Path, own: dict[str, bytes]) -> list[Tree]:
    """The documents of the overlay with `own` files, made in a copy under `folder`."""
    copy = folder / "kubernetes"
    shutil.copytree(FOLDER, copy, ignore=shutil.ignore_patterns("tls", "trust"))
    for name, data in own.items():
        file = copy / OVERLAY / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(data)
    done = subprocess.run(["kubectl", "kustomize", copy / OVERLAY], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return list(yaml.safe_load_all(done.stdout))


def one(documents: list[Tree], kind: str, name: str = "mtlsproxy") -> Tree:
    (found,) = [doc for doc in documents if doc["kind"] == kind and doc["metadata"]["name"] == name]
    return found
