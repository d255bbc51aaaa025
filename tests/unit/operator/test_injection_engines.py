"""Which engine a pod runs, where, and on which port; which of its flags are missing, and when they may be added."""

from typing import Any

import pytest

from lora_api.servability import vllm_rank_limit
from lora_operator.domain.engines import find_engine
from lora_operator.domain.flags import DEFAULT_RANK, EngineChange, Request, change_engine, engine_key
from support.injection import labelled

VLLM_ALL = ("--enable-lora", "--max-lora-rank", "64", "--max-loras", "3")
RUNTIME = ({"name": "VLLM_ALLOW_RUNTIME_LORA_UPDATING", "value": "1"},)
TWO = Request(adapters=2)

IMAGES = [
    ("vllm/vllm-openai:v0.33.0", "vllm", 8000),
    ("public.ecr.aws/deep-learning-containers/vllm@sha256:" + "0" * 64, "vllm", 8000),
    ("localhost:5000/rocm/vllm", "vllm", 8000),
    ("lmsysorg/sglang:latest", "sglang", 30000),
    ("ghcr.io/predibase/lorax:main", "lorax", 80),
    ("ghcr.io/huggingface/text-generation-inference:3.3.6-rocm", "static", 80),
    ("nvcr.io/nim/meta/llama-3.1-8b-instruct:1.8", "dirwatch", 8000),
    ("vllm.example.com/team/proxy", None, 0),
    ("example.com/minim/server", None, 0),
    ("text-generation:1", None, 0),
    ("", None, 0),
]


@pytest.mark.parametrize(("image", "engine", "port"), IMAGES, ids=[each[0] for each in IMAGES])
def test_an_engine_is_known_by_its_image_and_has_a_usual_port(image: str, engine: str | None, port: int) -> None:
    from lora_operator.domain.engines import recognise

    pod = labelled({}, image=image, args=[])
    found = recognise(pod["spec"]["containers"][0])
    assert (found.engine if found else None) == engine
    if engine:
        assert find_engine(pod).port == port


COMMANDS = [
    (["vllm", "serve", "base"], "vllm"),
    (["/usr/local/bin/vllm", "serve", "base"], "vllm"),
    (["python3", "-m", "vllm.entrypoints.openai.api_server", "--model=x"], "vllm"),
    (["/usr/bin/python3.12", "-u", "-m", "sglang.launch_server"], "sglang"),
    (["bash", "-lc", "sleep 1; exec python -m sglang.launch_server --port 1234"], "sglang"),
    (["text-generation-launcher"], "static"),
    (["lorax-launcher"], "lorax"),
]


@pytest.mark.parametrize(("command", "engine"), COMMANDS, ids=[" ".join(each[0]) for each in COMMANDS])
def test_a_command_says_it_better_than_the_image(command: list[str], engine: str) -> None:
    assert find_engine(labelled({}, image="nvcr.io/nim/x", command=command, args=[])).product.engine == engine


PORTS: list[tuple[str, dict[str, Any], dict[str, str], int]] = [
    ("annotation", {"args": ["--port=1"], "ports": [{"containerPort": 2}]}, {"lora-operator.io/port": " 8443 "}, 8443),
    ("flag", {"args": ["--port", "8080"], "ports": [{"containerPort": 2}]}, {}, 8080),
    ("flag with =", {"args": ["--port=8080"]}, {}, 8080),
    ("flag with a variable", {"args": ["--port=$(PORT)"], "env": [{"name": "PORT", "value": "7000"}]}, {}, 7000),
    ("in a script", {"command": ["sh", "-c", "vllm serve base --port 9000"], "args": []}, {}, 9000),
    ("port named http", {"ports": [{"containerPort": 2}, {"name": "http", "containerPort": 3}]}, {}, 3),
    ("first port", {"ports": [{"containerPort": 2}, {"containerPort": 3}]}, {}, 2),
    ("unknown value", {"args": ["--port=$(PORT)"]}, {}, 8000),
    ("default", {}, {}, 8000),
]


@pytest.mark.parametrize(("name", "container", "annotations", "port"), PORTS, ids=[each[0] for each in PORTS])
def test_the_port(name: str, container: dict[str, Any], annotations: dict[str, str], port: int) -> None:
    assert find_engine(labelled(annotations, **container)).port == port, name


def test_the_container_is_the_named_one_or_the_recognised_one_or_the_first() -> None:
    pod = labelled({})
    pod["spec"]["containers"].insert(0, {"name": "proxy", "image": "nginx"})
    assert find_engine(pod).container["name"] == "engine"
    pod["metadata"]["annotations"] |= {"lora-operator.io/engine": "static"}
    assert find_engine(pod).container["name"] == "proxy", "the recognised one is of another kind"
    pod["metadata"]["annotations"] |= {"lora-operator.io/container": "engine"}
    assert find_engine(pod).container["name"] == "engine"
    assert find_engine(pod).product.engine == "static"


def test_an_engine_with_certificates_is_reached_by_tls() -> None:
    assert (
        find_engine(labelled({}, args=["--model=x", "--ssl-certfile", "/tls/tls.crt"])).url == "https://127.0.0.1:8000"
    )


def change(request: Request = TWO, **container: Any) -> EngineChange:
    return change_engine(find_engine(labelled({}, **container)), request)


PLAIN: list[tuple[str, dict[str, Any], tuple[str, ...], int | None]] = [
    ("arguments of the image", {"args": ["--model=x"]}, VLLM_ALL, 64),
    ("model first", {"args": ["owner/model", "--seed=1"]}, VLLM_ALL, 64),
    ("command alone", {"command": ["vllm", "serve", "x"], "args": []}, VLLM_ALL, 64),
    ("command and arguments", {"command": ["vllm"], "args": ["serve", "x"]}, VLLM_ALL, 64),
    ("rank with =", {"args": ["--model=x", "--max-lora-rank=8"]}, ("--enable-lora", "--max-loras", "3"), 8),
    ("rank with _", {"args": ["--model=x", "--max_lora_rank", "8"]}, ("--enable-lora", "--max-loras", "3"), 8),
    (
        "rank in a variable",
        {"args": ["--model=x", "--max-lora-rank=$(RANK)"], "env": [{"name": "RANK", "value": "32"}]},
        ("--enable-lora", "--max-loras", "3"),
        32,
    ),
    ("rank unknown", {"args": ["--model=x", "--max-lora-rank=$(R)"]}, ("--enable-lora", "--max-loras", "3"), None),
    ("enabled", {"args": ["--model=x", "--enable_lora"]}, ("--max-lora-rank", "64", "--max-loras", "3"), 64),
    ("one server", {"args": ["--model=x", "--data-parallel-size=1"]}, VLLM_ALL, 64),
]


@pytest.mark.parametrize(("name", "container", "arguments", "rank"), PLAIN, ids=[each[0] for each in PLAIN])
def test_vllm_is_given_what_it_lacks(
    name: str, container: dict[str, Any], arguments: tuple[str, ...], rank: int | None
) -> None:
    found = change(**container)
    assert (found.arguments, found.environment, found.max_rank, found.notes) == (arguments, RUNTIME, rank, ()), name


def test_nothing_that_is_set_is_set_again() -> None:
    env = [{"name": "VLLM_ALLOW_RUNTIME_LORA_UPDATING", "valueFrom": {"configMapKeyRef": {"name": "a", "key": "b"}}}]
    complete = ["--model=x", "--enable-lora", "--max-lora-rank=128", "--max-loras=4"]
    assert change(args=complete, env=env) == EngineChange(max_rank=128)


def test_the_number_of_adapters_in_a_batch_is_bounded() -> None:
    assert change(Request(adapters=40)).arguments[-2:] == ("--max-loras", "8")


def test_the_rank_is_one_that_vllm_takes() -> None:
    assert vllm_rank_limit(DEFAULT_RANK) == DEFAULT_RANK


UNTOUCHED: list[tuple[str, dict[str, Any], str]] = [
    ("script", {"command": ["sh", "-c", "vllm serve x"], "args": []}, "a shell script starts it"),
    ("own entrypoint", {"command": ["/start.sh"], "args": ["--model=x"]}, "how it is started cannot be seen"),
    ("program as argument", {"args": ["/opt/bin/start", "--model=x"]}, "how it is started cannot be seen"),
    ("shell as argument", {"args": ["bash", "-c", "vllm serve x"]}, "a shell script starts it"),
    ("no arguments at all", {"args": []}, "how it is started cannot be seen"),
    ("two dashes", {"command": ["vllm", "serve", "x", "--", "y"], "args": []}, "how it is started cannot be seen"),
    ("configuration file", {"args": ["--config=/etc/vllm.yaml"]}, "what its --config file says cannot be seen"),
]


@pytest.mark.parametrize(("name", "container", "why"), UNTOUCHED, ids=[each[0] for each in UNTOUCHED])
def test_what_is_not_understood_is_left_alone_and_a_note_says_what_to_add(
    name: str, container: dict[str, Any], why: str
) -> None:
    found = change(**container)
    assert (found.arguments, found.environment) == ((), ()), name
    (note,) = found.notes
    assert note.reason == "EngineFlagsMissing"
    assert why in note.message
    assert note.message.endswith(
        "add the flags --enable-lora --max-lora-rank 64 --max-loras 3 and the environment"
        " VLLM_ALLOW_RUNTIME_LORA_UPDATING=1"
    )


def test_a_script_with_the_flags_lacks_only_the_variable_which_is_given() -> None:
    found = change(command=["sh", "-c", "vllm serve x --enable-lora"], args=[])
    assert found == EngineChange(environment=RUNTIME, max_rank=16), "16 is what vLLM takes if nothing is said"


def test_a_start_that_cannot_be_seen_is_believed_if_the_author_has_set_the_variable() -> None:
    assert change(command=["/start.sh"], args=[], env=list(RUNTIME)) == EngineChange()


def test_flags_that_may_not_be_touched_are_noted() -> None:
    found = change(Request(adapters=2, allowed=False))
    assert (found.arguments, found.environment) == ((), ())
    assert "add the flags --enable-lora" in found.notes[0].message
    complete = change(Request(adapters=2, allowed=False), args=["--model=x", "--enable-lora"], env=list(RUNTIME))
    assert complete == EngineChange(max_rank=16)


OBSTACLES = [
    (["--model=x", "--api-server-count=2"], "several servers (--api-server-count 2)"),
    (["--model=x", "--data_parallel_size", "4"], "several servers (--data-parallel-size 4)"),
    (["--model=x", "-dp", "2"], "several servers (-dp 2)"),
    (["--model=x", "--data-parallel-size=$(N)"], "several servers (--data-parallel-size $(N))"),
    (["--model=x", "--no-enable-lora"], "take that away"),
]


@pytest.mark.parametrize(("arguments", "words"), OBSTACLES, ids=[each[0][1] for each in OBSTACLES])
def test_an_engine_that_cannot_load_at_run_time_is_left_alone(arguments: list[str], words: str) -> None:
    """With the variable, vLLM would not even start with several servers."""
    found = change(args=arguments)
    assert (found.arguments, found.environment) == ((), ())
    assert words in found.notes[0].message


def test_loading_that_the_author_switched_off_is_noted() -> None:
    found = change(env=[{"name": "VLLM_ALLOW_RUNTIME_LORA_UPDATING", "value": "0"}])
    assert found.arguments == ()
    assert "VLLM_ALLOW_RUNTIME_LORA_UPDATING=0 keeps the engine from loading adapters" in found.notes[0].message


def test_sglang() -> None:
    command = {"image": "lmsysorg/sglang", "command": ["python3", "-m", "sglang.launch_server"]}
    found = change(**command, args=["--model-path=x"])
    assert found == EngineChange(
        (), ("--enable-lora", "--max-lora-rank", "64", "--lora-target-modules", "all"), max_rank=64
    )
    assert "several servers (--dp 2)" in change(**command, args=["--dp", "2"]).notes[0].message
    assert change(image="lmsysorg/sglang", args=["--model-path=x"]).arguments == (), (
        "the image has no entrypoint for it"
    )


def test_nim_reads_the_folder_again_and_again() -> None:
    image = {"image": "nvcr.io/nim/meta/llama:1", "args": []}
    names = {each["name"]: each["value"] for each in change(**image).environment}
    assert names == {"NIM_PEFT_SOURCE": "/adapters", "NIM_PEFT_REFRESH_INTERVAL": "10"}
    other = change(**image, env=[{"name": "NIM_PEFT_SOURCE", "value": "/mine"}])
    assert (other.environment, len(other.notes)) == ((), 1)
    assert change(**image, env=[{"name": "NIM_MAX_LORA_RANK", "value": "32"}]).max_rank == 32


def test_text_generation_inference_reads_its_adapters_at_its_start() -> None:
    image = {"image": "ghcr.io/huggingface/text-generation-inference:3", "args": ["--model-id=x"]}
    found = change(Request(2, ("a", "b")), **image)
    assert found.environment == ({"name": "LORA_ADAPTERS", "value": "a=/adapters/a,b=/adapters/b"},)
    assert found.reads_by_name, "so it cannot start without them"
    assert change(Request(2, ()), **image) == EngineChange(), "what is not there cannot be read"


def test_an_engine_that_was_only_named_is_left_as_it_is() -> None:
    for engine in ("dirwatch", "static"):
        pod = labelled({"lora-operator.io/engine": engine}, image="own:1")
        assert change_engine(find_engine(pod), TWO) == EngineChange()


SECRET = {"secretKeyRef": {"name": "vllm", "key": "key"}}
KEYS: list[tuple[str, dict[str, Any], dict[str, Any] | None]] = [
    ("none", {}, None),
    ("variable", {"env": [{"name": "VLLM_API_KEY", "value": "k"}]}, {"value": "k"}),
    ("variable from a Secret", {"env": [{"name": "VLLM_API_KEY", "valueFrom": SECRET}]}, {"valueFrom": SECRET}),
    ("flag", {"args": ["--model=x", "--api-key", "k"]}, {"value": "k"}),
    ("first of several", {"args": ["--model=x", "--api-key", "k", "l"]}, {"value": "k"}),
    (
        "flag with a variable",
        {"args": ["--model=x", "--api-key=$(MINE)"], "env": [{"name": "MINE", "valueFrom": SECRET}]},
        {"valueFrom": SECRET},
    ),
    (
        "flag wins over the variable",
        {"args": ["--model=x", "--api-key=f"], "env": [{"name": "VLLM_API_KEY", "value": "k"}]},
        {"value": "f"},
    ),
    (
        "in a script",
        {
            "command": ["sh", "-c", 'vllm serve x --api-key "${MINE}"'],
            "args": [],
            "env": [{"name": "MINE", "valueFrom": SECRET}],
        },
        {"valueFrom": SECRET},
    ),
    ("with a dollar", {"env": [{"name": "VLLM_API_KEY", "value": "a$$b$c"}]}, {"value": "a$$b$$c"}),
    (
        "made of others",
        {"env": [{"name": "A", "value": "x"}, {"name": "VLLM_API_KEY", "value": "$(A)-y"}]},
        {"value": "x-y"},
    ),
]


@pytest.mark.parametrize(("name", "container", "expected"), KEYS, ids=[each[0] for each in KEYS])
def test_the_agent_gets_the_key_of_the_engine(
    name: str, container: dict[str, Any], expected: dict[str, Any] | None
) -> None:
    key, notes = engine_key(find_engine(labelled({}, **container)))
    assert key == ({"name": "LORA_ENGINE_API_KEY"} | expected if expected else None), name
    assert notes == ()


@pytest.mark.parametrize("value", ["$(ELSEWHERE)", "Bearer $(MINE)"])
def test_a_key_that_cannot_be_seen_is_noted_without_its_text(value: str) -> None:
    container = {"args": ["--model=x", f"--api-key={value}"], "env": [{"name": "MINE", "valueFrom": SECRET}]}
    key, (note,) = engine_key(find_engine(labelled({}, **container)))
    assert key is None
    assert "the engine asks for a key that the webhook cannot see" in note.message


def test_the_key_of_an_administrator_of_sglang_comes_first() -> None:
    arguments = ["python3", "-m", "sglang.launch_server", "--api-key", "users", "--admin-api-key", "admins"]
    key, _ = engine_key(find_engine(labelled({}, command=arguments, args=[])))
    assert key == {"name": "LORA_ENGINE_API_KEY", "value": "admins"}


def test_a_circle_of_variables_ends() -> None:
    env = [{"name": "VLLM_API_KEY", "value": "$(B)"}, {"name": "B", "value": "$(VLLM_API_KEY)"}]
    key, notes = engine_key(find_engine(labelled({}, env=env)))
    assert key is None
    assert [each.reason for each in notes] == ["EngineFlagsMissing"]
