"""The generated code is what the contract generates, its floors are the package's, and the contract is commented."""

import re
import tomllib
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

from support.generate import PROTO, ROOT, generate, proto_files, protoc

COMMITTED = PROTO / "rmapi" / "v1"
GENERATED = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py", "_pb2_grpc.pyi")


@pytest.fixture(scope="module")
def generated(tmp_path_factory) -> dict[str, str]:
    out = tmp_path_factory.mktemp("generated")
    generate(out)
    return {str(path.relative_to(out)): path.read_text() for path in out.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def committed() -> dict[str, str]:
    files = [path for path in (PROTO / "rmapi").rglob("*") if path.name.endswith(GENERATED)]
    return {str(path.relative_to(PROTO)): path.read_text() for path in files}


def test_every_generated_file_is_committed_and_no_other(generated, committed) -> None:
    assert sorted(generated) == sorted(committed)


def test_the_committed_code_is_what_the_contract_generates(generated, committed) -> None:
    stale = [name for name, text in generated.items() if committed.get(name) != text]
    assert stale == [], "run `make proto`"


def test_generating_prints_nothing(tmp_path, capfd) -> None:
    generate(tmp_path)
    assert capfd.readouterr() == ("", "")


def test_a_broken_contract_is_told_with_the_compiler_s_words() -> None:
    with pytest.raises(SystemExit, match="no_such_file"):
        protoc("--python_out=.", "no_such_file.proto")


def test_the_floor_of_grpcio_is_that_of_the_generated_code(committed) -> None:
    text = committed["rmapi/v1/resource_manager_pb2_grpc.py"]
    (version,) = re.findall(r"^GRPC_GENERATED_VERSION = '([\d.]+)'$", text, re.MULTILINE)
    assert _floors()["grpcio"] == version


def test_the_floor_of_protobuf_is_that_of_the_generated_code(committed) -> None:
    call = re.compile(r"ValidateProtobufRuntimeVersion\(\s*\S+,\s*(\d+),\s*(\d+),\s*(\d+),")
    messages = {name: text for name, text in committed.items() if name.endswith("_pb2.py")}
    versions = {name: ".".join(call.findall(text)[0]) for name, text in messages.items()}
    assert len(versions) == len(proto_files())
    assert set(versions.values()) == {_floors()["protobuf"]}, versions


def test_the_compiler_is_pinned_to_the_floor_of_grpcio() -> None:
    (pinned,) = [need for need in _pyproject()["optional-dependencies"]["dev"] if need.startswith("grpcio-tools")]
    assert pinned == f"grpcio-tools=={_floors()['grpcio']}"


@pytest.mark.parametrize("name", proto_files())
def test_every_element_of_the_contract_has_a_comment(name, tmp_path) -> None:
    out = tmp_path / "set"
    protoc(f"--descriptor_set_out={out}", "--include_source_info", name)
    (file,) = FileDescriptorSet.FromString(out.read_bytes()).file
    bare = [element for path, element in _elements(file) if not _comment(file, path)]
    assert bare == []
    assert _comment(file, (12,)), f"{name} does not say what it is for, above its syntax line"


def test_an_element_without_a_comment_is_found(tmp_path) -> None:
    """The check itself works: the elements that say nothing are named."""
    body = "int32 x = 1;\n // Y.\n int32 y = 2;\n oneof z { int32 w = 3; }"
    (tmp_path / "a.proto").write_text(f'syntax = "proto3";\n// A.\nmessage A {{\n {body}\n}}\n')
    out = tmp_path / "set"
    protoc(f"-I{tmp_path}", f"--descriptor_set_out={out}", "--include_source_info", "a.proto")
    (file,) = FileDescriptorSet.FromString(out.read_bytes()).file
    assert [element for path, element in _elements(file) if not _comment(file, path)] == ["A.x", "A.w", "A.z"]


def _elements(file: FileDescriptorProto) -> list[tuple[tuple[int, ...], str]]:
    """Each message, field, oneof, enum, value, service and method: its path in the descriptor, and its name."""
    found = []
    for at, message in enumerate(file.message_type):
        found += _of_message((4, at), message.name, message)
    for at, enum in enumerate(file.enum_type):
        found += _of_enum((5, at), enum.name, enum)
    for at, service in enumerate(file.service):
        found.append(((6, at), service.name))
        found += [((6, at, 2, i), f"{service.name}.{method.name}") for i, method in enumerate(service.method)]
    return found


def _of_message(path: tuple[int, ...], name: str, message) -> list[tuple[tuple[int, ...], str]]:
    found = [(path, name)]
    found += [((*path, 2, i), f"{name}.{field.name}") for i, field in enumerate(message.field)]
    found += [((*path, 8, i), f"{name}.{oneof.name}") for i, oneof in enumerate(message.oneof_decl)]
    for i, enum in enumerate(message.enum_type):
        found += _of_enum((*path, 4, i), f"{name}.{enum.name}", enum)
    for i, nested in enumerate(message.nested_type):
        if not nested.options.map_entry:
            found += _of_message((*path, 3, i), f"{name}.{nested.name}", nested)
    return found


def _of_enum(path: tuple[int, ...], name: str, enum) -> list[tuple[tuple[int, ...], str]]:
    return [(path, name)] + [((*path, 2, i), f"{name}.{value.name}") for i, value in enumerate(enum.value)]


def _comment(file: FileDescriptorProto, path: tuple[int, ...]) -> str:
    places = [place for place in file.source_code_info.location if tuple(place.path) == path]
    return "".join(place.leading_comments for place in places).strip()


def _pyproject() -> dict:
    return tomllib.loads(Path(ROOT / "pyproject.toml").read_text())["project"]


def _floors() -> dict[str, str]:
    needs = [re.match(r"([a-z-]+)>=([\d.]+)", need) for need in _pyproject()["dependencies"]]
    return {need[1]: need[2] for need in needs}
