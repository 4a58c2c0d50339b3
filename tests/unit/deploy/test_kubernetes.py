"""The Kubernetes files: valid by Kubernetes' own schemas, fitting each other, a pod of few rights."""

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from tests.unit.deploy.promql import assert_exported
from tests.unit.deploy.rendering import FOLDER, OVERLAY, OWN, Tree, needs_kubectl, one, render

from mtlsproxy.config.parse import parse_config
from mtlsproxy.config.scalars import parse_duration

VERSIONS = ["1.27", "1.30", "1.34", "1.37"]
"""From the first that has all that is used here to the newest whose schemas there are."""

LABELS = {"app.kubernetes.io/name": "mtlsproxy"}
NO_SCHEMA = {"ServiceMonitor", "Kustomization"}
"""Custom resources and kustomize's own."""

PATCHES = {"networkpolicy.yaml", "service.yaml"}
"""Of the overlay: no whole documents, valid only in what is rendered."""

FILES = [
    file
    for file in sorted(FOLDER.rglob("*.yaml"))
    if file.name not in ("mtlsproxy.yaml", "prometheus-adapter.yaml")
    and file.parent.name not in ("tls", "trust")
    and not (file.parent.name == "example" and file.name in PATCHES)
]


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> list[Tree]:
    return render(tmp_path_factory.mktemp("rendered"), dict.fromkeys(OWN, b"-----\n"))


def base(name: str) -> list[Tree]:
    return list(yaml.safe_load_all((FOLDER / "base" / name).read_text()))


DEPLOYMENT = base("deployment.yaml")[0]
POD = DEPLOYMENT["spec"]["template"]
(CONTAINER,) = POD["spec"]["containers"]
CONFIG: Tree = yaml.safe_load((FOLDER / OVERLAY / "mtlsproxy.yaml").read_text())


def test_what_is_checked_is_all_there_is() -> None:
    assert {file.parent.name for file in FILES} == {"base", "example"}
    listed = base("kustomization.yaml")[0]["resources"]
    assert sorted([*listed, "kustomization.yaml"]) == sorted(file.name for file in (FOLDER / "base").iterdir())


# -- schemas ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_a_file_is_valid_by_itself(file: Path, version: str) -> None:
    """Without kubectl, too."""
    for document in yaml.safe_load_all(file.read_text()):
        if document["kind"] not in NO_SCHEMA:
            kubernetes_validate.validate(document, version, strict=True)


@needs_kubectl
@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_rendered_is_valid(rendered: list[Tree], version: str) -> None:
    kinds = {document["kind"] for document in rendered}
    assert kinds >= {"Deployment", "Service", "PodDisruptionBudget", "HorizontalPodAutoscaler", "NetworkPolicy"}
    assert kinds >= {"ServiceMonitor", "ConfigMap", "Secret", "Namespace"}
    for document in rendered:
        if document["kind"] not in NO_SCHEMA:
            kubernetes_validate.validate(document, version, strict=True)


def test_a_misspelled_key_would_be_found() -> None:
    document = yaml.safe_load((FOLDER / "base" / "deployment.yaml").read_text())
    document["spec"]["template"]["spec"]["terminationGracePeriod"] = 60
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(document, VERSIONS[-1], strict=True)


# -- one fits the other -----------------------------------------------------------------------------------------------


@needs_kubectl
def test_everything_is_in_the_namespace_and_every_volume_is_there(rendered: list[Tree]) -> None:
    assert {doc["metadata"].get("namespace") for doc in rendered if doc["kind"] != "Namespace"} == {"mtlsproxy"}
    made = {(doc["kind"], doc["metadata"]["name"]) for doc in rendered}
    for volume in one(rendered, "Deployment")["spec"]["template"]["spec"]["volumes"]:
        if "configMap" in volume:
            assert ("ConfigMap", volume["configMap"]["name"]) in made
        if "secret" in volume:
            assert ("Secret", volume["secret"]["secretName"]) in made


@needs_kubectl
def test_the_overlay_s_patches_add_and_take_nothing_away(rendered: list[Tree]) -> None:
    own, ours = one(rendered, "NetworkPolicy"), base("networkpolicy.yaml")[0]
    assert own["spec"]["egress"][: len(ours["spec"]["egress"])] == ours["spec"]["egress"]
    assert len(own["spec"]["egress"]) == len(ours["spec"]["egress"]) + 1
    assert one(rendered, "Service")["spec"]["ports"] == base("service.yaml")[0]["spec"]["ports"]


def test_everything_selects_the_pods() -> None:
    assert POD["metadata"]["labels"] == LABELS
    assert DEPLOYMENT["spec"]["selector"]["matchLabels"] == LABELS
    assert [service["spec"]["selector"] for service in base("service.yaml")] == [LABELS, LABELS]
    assert base("poddisruptionbudget.yaml")[0]["spec"]["selector"]["matchLabels"] == LABELS
    assert base("networkpolicy.yaml")[0]["spec"]["podSelector"]["matchLabels"] == LABELS
    assert base("horizontalpodautoscaler.yaml")[0]["spec"]["scaleTargetRef"]["name"] == DEPLOYMENT["metadata"]["name"]


def test_ports_are_named_alike_from_the_configuration_to_the_network() -> None:
    ports = {port["name"]: port["containerPort"] for port in CONTAINER["ports"]}
    bound = {"mtls": CONFIG["listeners"][0]["bind"], "metrics": CONFIG["admin"]["metrics_bind"]}
    assert bound == {name: f"0.0.0.0:{port}" for name, port in ports.items()}
    assert CONFIG["admin"]["bind"].startswith("127.0.0.1:")  # what changes state is for port-forward alone
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert CONTAINER[probe]["httpGet"]["port"] == "metrics"
    served = {port["targetPort"] for service in base("service.yaml") for port in service["spec"]["ports"]}
    let_in = {
        port["port"] for rule in base("networkpolicy.yaml")[0]["spec"]["ingress"] for port in rule.get("ports", ())
    }
    assert served == let_in == ports.keys()


def test_metrics_are_let_in_from_somewhere_named_only() -> None:
    for rule in base("networkpolicy.yaml")[0]["spec"]["ingress"]:
        assert ("from" in rule) is (rule["ports"][0]["port"] == "metrics")


def test_the_servicemonitor_finds_the_service_of_metrics_alone() -> None:
    spec = base("servicemonitor.yaml")[0]["spec"]
    wanted = spec["selector"]["matchLabels"].items()
    found = [service for service in base("service.yaml") if wanted <= service["metadata"]["labels"].items()]
    assert [service["metadata"]["name"] for service in found] == ["mtlsproxy-metrics"]
    assert [end["port"] for end in spec["endpoints"]] == [port["name"] for port in found[0]["spec"]["ports"]]


def test_the_autoscaler_asks_for_what_the_adapter_makes_of_the_proxy_s_metrics() -> None:
    rules = yaml.safe_load((FOLDER / "prometheus-adapter.yaml").read_text())["rules"]["custom"]
    asked = {
        metric["pods"]["metric"]["name"]
        for metric in base("horizontalpodautoscaler.yaml")[0]["spec"]["metrics"]
        if metric["type"] == "Pods"
    }
    assert asked == {rule["name"]["as"] for rule in rules}
    for rule in rules:
        query = rule["metricsQuery"].replace("<<.GroupBy>>", "job").replace("<<.LabelMatchers>>", 'job="p"')
        assert_exported(query, {})
        assert re.findall(r"mtlsproxy_\w+", rule["seriesQuery"]) == re.findall(r"mtlsproxy_\w+", query)


# -- the pod ----------------------------------------------------------------------------------------------------------


def test_the_pod_meets_the_restricted_standard() -> None:
    """Kubernetes' Pod Security Standards; the namespace enforces it."""
    pod, container = POD["spec"]["securityContext"], CONTAINER["securityContext"]
    assert pod["runAsNonRoot"] is True
    assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["allowPrivilegeEscalation"] is False
    assert container["readOnlyRootFilesystem"] is True
    assert container["capabilities"] == {"drop": ["ALL"]}
    assert POD["spec"]["automountServiceAccountToken"] is False
    assert {key for volume in POD["spec"]["volumes"] for key in volume} == {"name", "configMap", "secret", "emptyDir"}
    image = (FOLDER.parent / "container" / "Dockerfile").read_text()
    assert f"USER {pod['runAsUser']}:{pod['runAsGroup']}\n" in image


def test_keys_are_root_s_and_for_the_pod_s_group_alone() -> None:
    (secret,) = [volume["secret"] for volume in POD["spec"]["volumes"] if "secret" in volume]
    assert secret["defaultMode"] == 0o440
    assert POD["spec"]["securityContext"]["fsGroup"] == POD["spec"]["securityContext"]["runAsGroup"]


def test_a_change_reaches_running_pods() -> None:
    """kubelet never updates what is mounted by subPath, and a suffix would name another ConfigMap."""
    assert not any("subPath" in mount for mount in CONTAINER["volumeMounts"])
    own = yaml.safe_load((FOLDER / OVERLAY / "kustomization.yaml").read_text())
    assert own["generatorOptions"] == {"disableNameSuffixHash": True}


def test_the_pod_has_the_time_that_a_drain_takes() -> None:
    drains = sum(parse_duration(CONFIG["shutdown"][key]) for key in ("delay", "drain"))
    assert POD["spec"]["terminationGracePeriodSeconds"] >= drains + 10
    readiness = CONTAINER["readinessProbe"]
    assert parse_duration(CONFIG["shutdown"]["delay"]) > readiness["periodSeconds"] * readiness["failureThreshold"]


def test_state_is_kept_in_a_folder_of_its_own_within_the_volume() -> None:
    """The volume's group may write to it, which the proxy refuses for what it has to believe."""
    (mount,) = [mount["mountPath"] for mount in CONTAINER["volumeMounts"] if mount["name"] == "state"]
    assert Path(CONFIG["state_dir"]).parent == Path(mount)


def test_the_overlay_s_configuration_has_no_warning_and_names_what_is_mounted(tmp_path: Path) -> None:
    text = (FOLDER / OVERLAY / "mtlsproxy.yaml").read_bytes()
    loaded: Any = parse_config(text, "mtlsproxy.yaml", tmp_path, {})
    assert loaded.warnings == ()
    named = set(re.findall(r"\.\./(?:tls|trust)/[\w.-]+", text.decode()))
    assert {name.removeprefix("../") for name in named} == set(OWN)
