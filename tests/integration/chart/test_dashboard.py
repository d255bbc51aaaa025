"""The chart's dashboard: the objects of `manifests/dashboard.yaml`, the rights that they give, and the ways to it."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from generate.dashboard import NAME, RULES, Dashboard, dashboard_objects
from integration.chart.rendering import (
    CASES,
    MANIFESTS,
    Object,
    by_key,
    container,
    installed_by_helm,
    of_component,
    render,
    the,
)
from lora_operator.dashboard.config import read_config
from support.apiserver import ApiServer
from support.helm import CHART, NAMESPACE, RELEASE, Helm, objects_of
from support.wait import wait_for

pytestmark = pytest.mark.timeout(1500)
"""The first test may build Helm."""
TEAMS = ("team-a", "team-b")
RIGHTS = {"ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"}
HOST = "lora.example.org"
ROUTED = CHART / "ci" / "dashboard-values.yaml"
PASSTHROUGH = CHART / "ci" / "dashboard-passthrough-values.yaml"


def dashboard_of(helm: Helm, **values: Any) -> list[Object]:
    """Return what is rendered for the dashboard with some of its values."""
    namespaces = values.pop("namespaces", [])
    given = {"namespaces": namespaces, "dashboard": {"enabled": True, **values}}
    return of_component("dashboard", objects_of(helm.template(values=given)))


def test_it_is_the_manifest(helm: Helm) -> None:
    manifest = list(yaml.safe_load_all((MANIFESTS / "dashboard.yaml").read_text()))
    assert installed_by_helm(dashboard_of(helm)) == by_key(manifest)


def test_without_it_the_chart_installs_none_of_it(helm: Helm) -> None:
    hosts_alone = {"dashboard": {"hosts": [HOST], "ingress": {"enabled": True}, "httpRoute": {"enabled": True}}}
    assert of_component("dashboard", objects_of(helm.template(values=hosts_alone))) == []


def test_it_changes_nothing_of_the_operator(helm: Helm) -> None:
    both = objects_of(helm.template(values={"dashboard": {"enabled": True}}))
    assert by_key([each for each in both if each not in of_component("dashboard", both)]) == by_key(
        objects_of(helm.template())
    )


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ({"namespaces": list(TEAMS)}, Dashboard(namespaces=TEAMS)),
        ({"auth": "passthrough"}, Dashboard(auth="passthrough")),
        ({"auth": "passthrough", "namespaces": list(TEAMS)}, Dashboard(auth="passthrough", namespaces=TEAMS)),
        ({"hosts": [HOST, "lora"]}, Dashboard(hosts=(HOST, "lora"))),
    ],
    ids=["namespaces", "passthrough", "passthrough in namespaces", "hosts"],
)
def test_values_change_what_the_generator_changes(helm: Helm, values: dict[str, Any], wanted: Dashboard) -> None:
    assert installed_by_helm(dashboard_of(helm, **values)) == by_key(dashboard_objects(wanted))


@pytest.mark.parametrize("case", [ROUTED, PASSTHROUGH], ids=lambda case: case.stem)
def test_the_program_takes_its_arguments(helm: Helm, case: Any) -> None:
    values = yaml.safe_load(case.read_text())
    config = read_config(container(render(helm, case), "dashboard")["args"], {})
    assert config.namespaces == tuple(values.get("namespaces", []))
    assert config.auth == values["dashboard"].get("auth", "serviceaccount")
    assert config.hosts == (HOST,)


def test_both_cases_are_among_those_that_helm_and_the_server_judge() -> None:
    assert {ROUTED, PASSTHROUGH} <= set(CASES)


def test_image_and_security_are_those_of_the_operator(helm: Helm) -> None:
    values = {
        "image": {"registry": "registry.example", "digest": f"sha256:{'0' * 64}", "pullPolicy": "Always"},
        "imagePullSecrets": [{"name": "registry"}],
        "podSecurityContext": {"runAsNonRoot": True, "fsGroup": 7},
        "containerSecurityContext": {"readOnlyRootFilesystem": True},
        "dashboard": {"enabled": True},
    }
    objects = objects_of(helm.template(values=values))
    operator, dashboard = container(objects), container(objects, "dashboard")
    for each in ("image", "imagePullPolicy", "securityContext"):
        assert dashboard[each] == operator[each]
    pods = [each["spec"]["template"]["spec"] for each in objects if each["kind"] == "Deployment"]
    assert [each["imagePullSecrets"] for each in pods] == [[{"name": "registry"}]] * 2
    assert [each["securityContext"]["fsGroup"] for each in pods] == [7, 7]


def test_pods_get_labels_and_places_and_none_that_others_select(helm: Helm) -> None:
    component = {"app.kubernetes.io/component": "controller"}
    objects = dashboard_of(
        helm,
        podLabels={"team": "platform"} | component,
        podAnnotations={"owner": "platform"},
        nodeSelector={"zone": "a"},
        resources={"limits": {"memory": "1Gi"}},
        replicaCount=3,
    )
    deployment = the("Deployment", objects)
    metadata, pod = deployment["spec"]["template"]["metadata"], deployment["spec"]["template"]["spec"]
    assert (metadata["labels"]["team"], metadata["annotations"]["owner"]) == ("platform", "platform")
    assert metadata["labels"]["app.kubernetes.io/component"] == "dashboard", "or the operator's Service would take it"
    assert pod["nodeSelector"] == {"zone": "a"}
    assert container(objects, "dashboard")["resources"]["limits"] == {"memory": "1Gi"}
    assert deployment["spec"]["replicas"] == 3


def test_another_name_of_the_release_is_in_all_names(helm: Helm) -> None:
    values = {"fullnameOverride": "tuning", "dashboard": {"enabled": True}}
    objects = of_component("dashboard", objects_of(helm.template(values=values)))
    assert {each["metadata"]["name"] for each in objects} == {"tuning-dashboard"}
    assert the("Deployment", objects)["spec"]["template"]["spec"]["serviceAccountName"] == "tuning-dashboard"
    binding = the("ClusterRoleBinding", objects)
    assert binding["roleRef"]["name"] == "tuning-dashboard"
    assert [each["name"] for each in binding["subjects"]] == ["tuning-dashboard"]


def test_an_ingress_leads_each_name_to_the_service(helm: Helm) -> None:
    objects = render(helm, ROUTED)
    ingress, service = the("Ingress", objects)["spec"], the("Service", objects, NAME)
    (rule,) = ingress["rules"]
    (path,) = rule["http"]["paths"]
    assert (rule["host"], path["path"]) == (HOST, "/")
    assert path["backend"]["service"]["name"] == service["metadata"]["name"]
    assert path["backend"]["service"]["port"]["name"] in {each["name"] for each in service["spec"]["ports"]}
    assert ingress["ingressClassName"] == "nginx"
    assert ingress["tls"] == [{"hosts": [HOST], "secretName": "lora-dashboard-tls"}]


def test_a_route_of_a_gateway_leads_each_name_to_the_service(helm: Helm) -> None:
    objects = render(helm, PASSTHROUGH)
    route, service = the("HTTPRoute", objects)["spec"], the("Service", objects, NAME)
    assert route["hostnames"] == [HOST]
    assert route["parentRefs"] == [{"name": "public", "namespace": "gateways", "sectionName": "https"}]
    (backend,) = route["rules"][0]["backendRefs"]
    assert (backend["name"], backend["port"]) == (service["metadata"]["name"], service["spec"]["ports"][0]["port"])
    assert not [each for each in of_component("dashboard", objects) if each["kind"] == "NetworkPolicy"]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"ingress": {"enabled": True}}, "dashboard.hosts: dashboard.ingress.enabled needs the name of the page"),
        (
            {"httpRoute": {"enabled": True, "parentRefs": [{"name": "public"}]}},
            "dashboard.hosts: dashboard.httpRoute.enabled needs the name of the page",
        ),
        ({"hosts": [HOST], "httpRoute": {"enabled": True}}, "dashboard.httpRoute.parentRefs: name the Gateway"),
    ],
)
def test_a_route_to_nowhere_is_refused(helm: Helm, values: dict[str, Any], said: str) -> None:
    assert said in helm.refusal({"dashboard": {"enabled": True, **values}})


@pytest.fixture
def grant(helm: Helm, server: ApiServer) -> Iterator[Any]:
    """Return what gives the dashboard's account what a rendering gives it, and takes it back afterwards."""
    given: list[Object] = []

    def apply(**values: Any) -> None:
        given.extend(each for each in dashboard_of(helm, **values) if each["kind"] in RIGHTS)
        done = server.run_kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(given))
        assert done.returncode == 0, done.stderr

    yield apply
    done = server.run_kubectl("delete", "-f", "-", stdin=yaml.safe_dump_all(given))
    assert done.returncode == 0, done.stderr


def rules(server: ApiServer, account: str, namespace: str) -> list[Object]:
    """Return all that the API server lets an account do in a namespace."""
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview"}
    user = f"system:serviceaccount:{NAMESPACE}:{account}"
    arguments = ("create", "-f", "-", "-o", "json", "--validate=false", f"--as={user}")
    done = server.run_kubectl(*arguments, stdin=yaml.safe_dump(review | {"spec": {"namespace": namespace}}))
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout)["status"]["resourceRules"])


def own_rules(server: ApiServer, namespace: str) -> list[Object]:
    """Return what the dashboard may do, and an account without any role may not."""
    everybody = rules(server, "nobody", namespace)
    return [each for each in rules(server, NAME, namespace) if each not in everybody]


@pytest.mark.parametrize(
    ("values", "readable"),
    [
        ({}, {*TEAMS, NAMESPACE, "kube-system"}),
        ({"namespaces": ["team-a"]}, {"team-a"}),
        ({"auth": "passthrough"}, set()),
        ({"auth": "passthrough", "namespaces": ["team-a"]}, set()),
    ],
    ids=["everywhere", "namespaces", "passthrough", "passthrough in namespaces"],
)
def test_it_may_read_its_two_kinds_and_no_more(
    grant: Any, server: ApiServer, values: dict[str, Any], readable: set[str]
) -> None:
    grant(**values)
    expected = {each: RULES if each in readable else [] for each in (*TEAMS, NAMESPACE, "kube-system")}

    def found() -> dict[str, list[Object]]:
        return {each: own_rules(server, each) for each in expected}

    # The server takes notice of roles a moment after it has them.
    wait_for("the rights of the rendering", lambda: found() == expected, seconds=10, state=found)


@pytest.mark.parametrize("values", [{}, {"namespaces": ["team-a"]}], ids=["everywhere", "namespaces"])
def test_rights_are_left_to_others_where_the_chart_makes_none(helm: Helm, values: dict[str, Any]) -> None:
    rendered = objects_of(helm.template(values=values | {"rbac": {"create": False}, "dashboard": {"enabled": True}}))
    assert {each["kind"] for each in of_component("dashboard", rendered)} & RIGHTS == {"ServiceAccount"}


@pytest.mark.parametrize(
    ("values", "told", "untold"),
    [
        ({}, ["port-forward deployment/lora-operator-dashboard 8080", "http://localhost:8080"], ["label namespace"]),
        (
            {"hosts": [HOST], "ingress": {"enabled": True}},
            ["port-forward", f"whoever reaches {HOST}", "ingress controller ask", "lora-operator.io/dashboard=true"],
            [],
        ),
        (
            {"auth": "passthrough"},
            ["http://lora-operator-dashboard.lora-system.svc", "That of the proxy needs it"],
            ["port-forward"],
        ),
        ({"enabled": False}, [], ["dashboard"]),
    ],
    ids=["port-forward", "ingress", "passthrough", "none"],
)
def test_the_notes_tell_how_to_open_it(helm: Helm, values: Any, told: list[str], untold: list[str]) -> None:
    given = yaml.safe_dump({"dashboard": {"enabled": True} | values})
    arguments = ("install", RELEASE, str(CHART), "--namespace", NAMESPACE, "--dry-run=client", "--values", "-")
    notes = " ".join(helm(*arguments, stdin=given).partition("NOTES:")[2].split())
    assert [each for each in told if each not in notes] == []
    assert [each for each in untold if each in notes] == []
