"""The files under ``examples``: loaded by what they are written for, and true to the gateway."""

import http.client
import re
import shutil
import socket
import subprocess
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
NGINX = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
OPENSSL = shutil.which("openssl")


# --- nginx ----------------------------------------------------------------------------------------
class Replica:
    """Counts requests; answers them, or hangs up after having read them."""

    def __init__(self, *, answers=True):
        self.answers, self.count, self.headers = answers, 0, b""
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        while True:
            try:
                link, _ = self.listener.accept()
            except OSError:
                return
            with link:
                link.settimeout(5)
                head = b""
                while b"\r\n\r\n" not in head:
                    head += link.recv(65536)
                self.count, self.headers = self.count + 1, head
                if self.answers:
                    link.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")

    def close(self):
        with suppress(OSError):  # it may be closed already
            self.listener.shutdown(socket.SHUT_RDWR)  # also what waits in accept
        self.listener.close()


@contextmanager
def balancer(folder, ports):
    """Run nginx with the example, on other addresses; yield its port."""
    if NGINX is None or OPENSSL is None:
        pytest.skip("nginx or openssl is not installed: apt install nginx-light openssl")
    how = ["-subj", "/CN=localhost", "-days", "2", "-newkey", "rsa:2048", "-nodes"]
    files = ["-keyout", folder / "models.key", "-out", folder / "models.crt"]
    subprocess.run([OPENSSL, "req", "-x509", *how, *files], check=True, capture_output=True)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    text = (EXAMPLES / "nginx" / "gateway.conf").read_text()
    for old, new in (
        ("10.0.0.11:8080", f"127.0.0.1:{ports[0]}"),
        ("10.0.0.12:8080", f"127.0.0.1:{ports[1]}"),
        ("listen 443", f"listen 127.0.0.1:{port}"),
        ("/etc/ssl/models", f"{folder}/models"),
        # Certificates of callers are optional in the example: what is commented out must load as well.
        ("/etc/ssl/clients-ca.crt", f"{folder}/models.crt"),
        ("#ssl_", "ssl_"),
    ):
        assert old in text
        text = text.replace(old, new)
    (folder / "gateway.conf").write_text(text)
    scratch = " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi"))
    scratch += f" uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi; access_log off;"
    (folder / "nginx.conf").write_text(
        f"worker_processes 1; daemon off; pid {folder}/pid; error_log {folder}/error.log;\n"
        f"events {{ }}\nhttp {{ {scratch} include {folder}/gateway.conf; }}\n"
    )
    command = [NGINX, "-p", folder, "-c", folder / "nginx.conf", "-e", folder / "error.log"]
    checked = subprocess.run([*command, "-t"], check=False, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    assert "[warn]" not in checked.stderr, checked.stderr
    server = subprocess.Popen(command)
    try:
        end = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert time.monotonic() < end, "nginx does not listen"
                assert server.poll() is None, (folder / "error.log").read_text()
                time.sleep(0.02)
        yield port
    finally:
        server.terminate()
        server.wait(10)


def post(port, path="/v2/models/m/infer", headers=None, body=b"{}"):
    import ssl

    link = http.client.HTTPSConnection(
        "127.0.0.1", port, timeout=10, context=ssl._create_unverified_context()
    )
    try:
        link.request("POST", path, body, headers or {})
        return link.getresponse().status
    finally:
        link.close()


def test_nginx_sends_no_request_twice_and_leaves_dead_replicas_out(tmp_path):
    rude, kind = Replica(answers=False), Replica()
    try:
        with balancer(tmp_path, (rude.port, kind.port)) as port:
            statuses = [post(port) for _ in range(4)]
            # What a replica has read may have been paid for: no other one gets it.
            assert rude.count == statuses.count(502) >= 1
            assert kind.count == statuses.count(200) >= 1
            rude.close()
            assert [post(port) for _ in range(4)] == [200] * 4
            assert post(port, headers={"PoW-Proof": "x" * 4000, "X-Client-Cert": "ab" * 32}) == 200
            assert b"PoW-Proof" in kind.headers
            # What only the proxy may say is not taken over from a caller.
            assert b"x-client-cert" not in kind.headers.lower()
            seen = kind.count
            assert [post(port, path) for path in ("/operator", "/operator/accounts", "/metrics")] == [404] * 3
            assert post(port, body=b"x" * (9 * 2**20 + 1)) == 413
            assert kind.count == seen
    finally:
        rude.close()
        kind.close()


# --- Kubernetes -----------------------------------------------------------------------------------
def manifests():
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    text = (EXAMPLES / "kubernetes" / "gateway.yaml").read_text()
    found = [one for one in yaml.safe_load_all(text) if one is not None]
    return text, {one["kind"]: one for one in found}, found


def test_the_manifest_refers_to_what_is_there():
    text, by_kind, found = manifests()
    assert len(by_kind) == len(found) == 4
    for one in found:
        assert set(one) == {"apiVersion", "kind", "metadata", "spec"}
        assert re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", one["metadata"]["name"])
    deployment = by_kind["Deployment"]["spec"]
    pod, labels = deployment["template"]["spec"], deployment["template"]["metadata"]["labels"]
    assert deployment["selector"]["matchLabels"].items() <= labels.items()
    assert by_kind["Service"]["spec"]["selector"].items() <= labels.items()
    allowed = by_kind["NetworkPolicy"]["spec"]["ingress"][0]["from"][0]["podSelector"]["matchLabels"]
    assert allowed.items() <= labels.items()
    (container,) = pod["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    for port in by_kind["Service"]["spec"]["ports"]:
        assert port["targetPort"] in ports
    assert {mount["name"] for mount in container["volumeMounts"]} == {one["name"] for one in pod["volumes"]}
    claims = {
        one["persistentVolumeClaim"]["claimName"] for one in pod["volumes"] if "persistentVolumeClaim" in one
    }
    assert claims == {by_kind["PersistentVolumeClaim"]["metadata"]["name"]}
    # Everything else that is mounted or read is made by the commands in the head of the file.
    for name in re.findall(
        r"(?:secretName|configMap: \{name|secretKeyRef: \{name|secret:\n +name): ([a-z-]+)", text
    ):
        assert re.search(rf"kubectl create (secret generic|configmap) {name} ", text), name
    upstream = next(a for a in container["args"] if a.startswith("--upstream="))
    model_port = by_kind["NetworkPolicy"]["spec"]["ingress"][0]["ports"][0]["port"]
    assert upstream.endswith(f":{model_port}")


def test_the_manifest_runs_a_command_that_exists_as_a_user_without_rights(tmp_path):
    pytest.importorskip("fastapi", reason="the gateway's packages are not installed: assay-ml[serve]")
    import typer

    from assay.cli.serve import serve
    from assay.cli.verbs import verb
    from assay.gateway.server.meta_api import meta_router

    _, by_kind, _ = manifests()
    pod = by_kind["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["command"] == ["assay", "serve"]
    app = typer.Typer()
    app.command()(verb(serve))
    options = {name for one in typer.main.get_command(app).params for name in one.opts}
    given = dict(argument.split("=", 1) for argument in container["args"])
    assert given.keys() <= options
    assert {one["name"] for one in container["env"]} == {"ASSAY_STORE", "ASSAY_OPERATOR_TOKEN"}
    # What is read lies on a volume, and what is written on one that can be written to.
    mounts = {one["mountPath"]: one.get("readOnly", False) for one in container["volumeMounts"]}
    for option, read_only in (("--policy", True), ("--policy-key", True), ("--keys", False)):
        assert mounts[str(Path(given[option]).parent)] is read_only
    paths = {route.path for route in meta_router(_Nothing()).routes}
    assert {container[probe]["httpGet"]["path"] for probe in ("readinessProbe", "livenessProbe")} <= paths
    # The restricted Pod Security Standard.
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    # Files of secrets are root's, and the pod's user is another.
    secret = next(one["secret"] for one in pod["volumes"] if "secret" in one)
    assert secret["defaultMode"] & 0o004


class _Nothing:
    def __getattr__(self, name):
        return _Nothing()


def test_the_policys_estimator_is_mounted_beside_it():
    """As Kubernetes mounts it: every name a link into a folder that is replaced as a whole."""
    _, by_kind, _ = manifests()
    pod = by_kind["Deployment"]["spec"]["template"]["spec"]
    policy = next(one["projected"] for one in pod["volumes"] if one["name"] == "policy")
    items = [item for source in policy["sources"] for item in source.get("secret", {}).get("items", ())]
    assert {item["path"] for item in items} == {
        "policy-estimator/manifest.json",
        "policy-estimator/estimator.safetensors",
    }


def test_an_estimator_is_found_after_a_folder_of_links_was_replaced(tmp_path):
    pytest.importorskip("sqlalchemy", reason="the gateway's packages are not installed: assay-ml[serve]")
    from assay.gateway.policy import EstimatorSource, Policy
    from assay.gateway.server.setup import _Opener

    policy = Policy(estimator=EstimatorSource(folder="policy-estimator"))
    opener = _Opener(None, None, None, Path(), tmp_path / "policy.toml", None, None)
    for round_ in ("..1", "..2"):
        made = tmp_path / round_ / "policy-estimator"
        made.mkdir(parents=True)
        (tmp_path / round_ / "policy.toml").write_text("")
        data = tmp_path / "..data"
        data.unlink(missing_ok=True)
        data.symlink_to(round_)
        for name in ("policy.toml", "policy-estimator"):
            if not (tmp_path / name).is_symlink():
                (tmp_path / name).symlink_to(f"..data/{name}")
        if round_ == "..2":
            shutil.rmtree(tmp_path / "..1")
        assert (opener._beside(policy) / "policy-estimator").resolve() == made
    # A single file that is a link, with the estimator beside what it links to.
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "policy.toml").symlink_to(tmp_path / "..2" / "policy.toml")
    opener = _Opener(None, None, None, Path(), tmp_path / "elsewhere" / "policy.toml", None, None)
    assert opener._beside(policy) == tmp_path / "..2"
