"""No secret of the environment stands in what evaluating and comparing write or say."""

from evaluate.generators.cases import STUDENT
from evaluate.generators.serving import KEY, serving
from job.command import run

SECRET = "hunter2hunter2"


def test_no_file_of_an_evaluation_holds_a_secret(tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QTARGET_API_KEY", KEY)
    for name in ("HF_TOKEN", "QTARGET_TEACHER_TOKEN"):
        monkeypatch.setenv(name, f"{name}{SECRET}")
    asking = ("--task", "lab-weak-operator", "--limit", "3", "--k", "2")
    with serving(STUDENT) as server:
        served = ("--generator", "http", "--url", server.url)
        said = [
            run(capfd, "eval", str(STUDENT), *asking, "--out", "served", *served),
            run(capfd, "eval", str(STUDENT), *asking, "--out", "here"),
            run(capfd, "eval", str(STUDENT), *asking, "--out", "here", "--regrade", "--json"),
            run(capfd, "compare", "served", "here", "--out", "table"),
            run(capfd, "compare", "served", "here", "--out", "logs", "--to", "inspect"),
        ]
        monkeypatch.setenv("QTARGET_API_KEY", f"wrong{SECRET}")
        refused = [
            run(capfd, "eval", str(STUDENT), *asking, "--out", "wrong", *served),
            run(capfd, "eval", str(STUDENT), *asking, "--out", "w", *served[:3], f"http://me:{SECRET}@127.0.0.1:9"),
        ]
    assert [each.code for each in said] == [0] * len(said), said
    assert all(each.code for each in refused)
    told = "".join(each.out + each.err for each in (*said, *refused))
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"run.json", "samples.jsonl", "results.json", "comparison.json"} <= {path.name for path in files}
    for secret in (SECRET, KEY):
        assert secret not in told
        assert [str(path) for path in files if secret.encode() in path.read_bytes()] == []
