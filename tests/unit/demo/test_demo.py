"""How the demo ends when it does not go well: one line, and an exit code."""

from collections.abc import Callable

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from demo import __main__ as demo


def refuse(error: BaseException) -> Callable[[], int]:
    """Return a demo that ends so."""

    def story() -> int:
        raise error

    return story


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (RuntimeError("kubectl apply: Error from server:\nno such namespace"), 1, "from server: no such namespace"),
        (FileNotFoundError(2, "No such file or directory", "kubectl"), 1, "'kubectl'"),
        (ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "PutObject"), 1, "PutObject"),
        (EndpointConnectionError(endpoint_url="http://s3.example"), 1, "http://s3.example"),
    ],
    ids=["interrupt", "kubectl", "no kubectl", "S3 refuses", "no S3"],
)
def test_it_ends_with_one_line(
    error: BaseException,
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(demo, "demo", refuse(error))
    assert demo.main() == code
    (line,) = capsys.readouterr().out.splitlines()
    assert said in line


def test_of_another_cluster_it_promises_to_remove_its_namespace_alone() -> None:
    assert "kubectl delete namespace lora-demo" in demo.removal({"CLUSTER": "current"})
    assert demo.removal({"CLUSTER": "local"}) == "`make clean` removes everything"
