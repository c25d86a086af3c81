"""The examples run, each as the process that its first lines say, and leave nothing behind."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import leasehold
from support import tiny_model
from support.daemon import Daemon, is_all_free

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ROOT / "demo" / "axcl"


@pytest.fixture(scope="module")
def model_path(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("models") / "add.onnx"
    path.write_bytes(tiny_model.model(shape=(1, 64)))
    return str(path)


def run_python(daemon, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"LEASEHOLD_ADDRESS": str(daemon.run_directory)}
    command = [sys.executable, "-m", f"demo.axcl.{module}", *arguments]
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60)


def check(done: subprocess.CompletedProcess[str], daemon, *said: str) -> None:
    assert done.returncode == 0, done.stdout + done.stderr
    for words in said:
        assert words in done.stdout
    with daemon.connect() as client:
        assert is_all_free(client)


def test_a_program_for_the_vendor_s_package_runs_unchanged(daemon, model_path) -> None:
    program = PROGRAMS / "vendor_program.py"
    assert len(program.read_text().splitlines()) >= 100
    assert "leasehold" not in program.read_text().split('"""', 2)[2]
    done = daemon.rmctl("run", "--axcl-python", "--", str(program), "-m", model_path)
    check(done, daemon, "thread 0: good", "thread 1: good", "input  [0] x [1, 64] 256 bytes")


def test_it_runs_under_a_lease_that_was_taken_for_it(daemon, model_path) -> None:
    claims = ["--cores", "1", "--memory", "16MiB"]
    program = [sys.executable, str(PROGRAMS / "vendor_program.py"), "-m", model_path]
    check(daemon.rmctl("run", "--axcl-python", *claims, "--", *program), daemon, "thread 1: good")


def test_the_vendor_s_other_package_and_the_modules_of_the_first_are_found_too(daemon, model_path, tmp_path) -> None:
    program = tmp_path / "infer.py"
    program.write_text(
        "import axcl\nimport axcl.rt.axcl_rt_device\nfrom axcl.rt.axcl_rt_engine import *\n"
        "from axcl.rt.axcl_rt_type import *\nimport axengine\nimport numpy as np\n"
        "session = axengine.InferenceSession(sys.argv[1], providers=['AXCLRTExecutionProvider'])\n"
        "(y,) = session.run(None, {'x': np.ones((1, 64), 'float32')})\n"
        "print(y.sum(), engine_get_vnpu_kind(), AXCL_MEM_MALLOC_NORMAL_ONLY, axengine.get_available_providers())\n"
        "print(axcl.InferenceSession is axengine.InferenceSession, axcl.rt.axcl_rt_device.get_device())\n"
    )
    done = daemon.rmctl("run", "--axcl-python", "--", str(program), model_path)
    check(done, daemon, "128.0 (0, 0) 2 ['AXCLRTExecutionProvider']", "True (0, 0)")


def test_what_was_taken_for_it_is_what_it_uses_and_its_card_comes_first(tmp_path) -> None:
    program = tmp_path / "look.py"
    program.write_text(
        "import axcl, leasehold\naxcl.init()\ndevices, _ = axcl.rt.get_device_list()\n"
        "axcl.rt.set_device(devices[0])\n"
        "address, ret = axcl.rt.malloc(1 << 20, 0)\nprint(devices, ret, address % (1 << 40))\n"
        "with leasehold.connect() as client:\n    print([pool.used for pool in client.cards()[1].pools][:4])\n"
        "axcl.finalize()\n"
    )
    two_cards = Daemon("--cards", "2")
    try:
        claims = ["--card", "1", "--cores", "1", "--memory", "2MiB"]
        done = two_cards.rmctl("run", "--axcl-python", *claims, "--", str(program))
    finally:
        two_cards.remove()
    assert done.stdout == "[1, 0] 0 0\n[32, 1, 1, 1]\n", done.stdout + done.stderr


def test_one_context_a_thread(daemon) -> None:
    done = daemon.rmctl("run", "--axcl-python", "--", str(PROGRAMS / "one_context_a_thread.py"))
    check(done, daemon, "4 of 4 threads")


def test_two_streams_and_an_event(daemon) -> None:
    check(run_python(daemon, "two_streams_and_an_event"), daemon, "the reader saw {3}")


def test_double_buffered_inference(daemon, model_path) -> None:
    check(run_python(daemon, "double_buffered", model_path), daemon, "8 batches in two lanes: the same")


def test_two_processes_that_want_different_modes(daemon) -> None:
    done = run_python(daemon, "two_processes")
    check(done, daemon, "card 0 is in mode std (held by L", "second: the card is in mode BIG_LITTLE")


def test_the_end_of_memory(daemon) -> None:
    done = daemon.rmctl("run", "--axcl-python", "--", str(PROGRAMS / "end_of_memory.py"))
    check(done, daemon, "16 blocks, then 0x8030050c", "POOL_EXHAUSTED", "one block back, and taken again")


def test_a_command_that_is_not_there_is_told_in_one_line(daemon) -> None:
    done = daemon.rmctl("run", "--axcl-python", "--", "/nowhere/prog")
    assert (done.returncode, done.stderr) == (127, "rmctl: cannot run /nowhere/prog: No such file or directory\n")


def test_without_a_daemon_it_says_so(daemon, tmp_path) -> None:
    program = str(PROGRAMS / "end_of_memory.py")
    done = daemon.rmctl("--address", str(tmp_path), "run", "--axcl-python", "--", program)
    assert (done.returncode, done.stdout) == (69, "")
    assert len(done.stderr.splitlines()) == 1


def test_an_interpreter_without_the_library_is_told_what_to_do() -> None:
    environment = {"PYTHONPATH": str(Path(leasehold.__file__).parent / "axcl_path")}
    bare = [sys.executable, "-S", "-c", "import axcl"]  # without its site-packages
    done = subprocess.run(bare, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"ImportError: {sys.executable} has no module 'leasehold': install")
