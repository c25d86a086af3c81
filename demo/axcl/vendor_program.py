"""A program as it is written for an AXERA card: it imports ``axcl``, and knows nothing of leases.

    rmctl run --axcl-python -- demo/axcl/vendor_program.py --model model.onnx

Two threads have a context each. Each loads the model, and then copies inputs in, runs, and copies outputs out, once at
once and then on a stream of its own; what comes out both ways must be the same.
"""

import argparse
import ctypes
import sys
import threading

import axcl

TIMEOUT_MS = 10_000
results = {}


def check(ret, what):
    """Ends the thread where a call has failed."""
    if ret != axcl.AXCL_SUCC:
        raise RuntimeError(f"{what} failed: 0x{ret & 0xFFFFFFFF:08x}")


def value(answer, what):
    """The value of an answer that has one."""
    *values, ret = answer
    check(ret, what)
    return values[0] if len(values) == 1 else values


class Worker:
    """What one thread has: a context, a stream, a model with its buffers."""

    def __init__(self, device, model_path):
        self.context = value(axcl.rt.create_context(device), "create_context")
        self.stream = value(axcl.rt.create_stream(), "create_stream")
        check(axcl.rt.engine_init(axcl.AXCL_VNPU_DISABLE), "engine_init")
        self.model = value(axcl.rt.engine_load_from_file(model_path), "engine_load_from_file")
        self.engine_context = value(axcl.rt.engine_create_context(self.model), "engine_create_context")
        self.info = value(axcl.rt.engine_get_io_info(self.model), "engine_get_io_info")
        self.io = value(axcl.rt.engine_create_io(self.info), "engine_create_io")
        self.inputs, self.outputs = [], []
        for index in range(axcl.rt.engine_get_num_inputs(self.info)):
            size = axcl.rt.engine_get_input_size_by_index(self.info, 0, index)
            memory = value(axcl.rt.malloc(size, axcl.AXCL_MEM_MALLOC_NORMAL_ONLY), "malloc")
            check(axcl.rt.engine_set_input_buffer_by_index(self.io, index, memory, size), "set_input_buffer")
            self.inputs.append((memory, size))
        for index in range(axcl.rt.engine_get_num_outputs(self.info)):
            size = axcl.rt.engine_get_output_size_by_index(self.info, 0, index)
            memory = value(axcl.rt.malloc(size, axcl.AXCL_MEM_MALLOC_NORMAL_ONLY), "malloc")
            check(axcl.rt.engine_set_output_buffer_by_index(self.io, index, memory, size), "set_output_buffer")
            self.outputs.append((memory, size))

    def describe(self):
        """A line for each input and output."""
        for index in range(axcl.rt.engine_get_num_inputs(self.info)):
            name = axcl.rt.engine_get_input_name_by_index(self.info, index)
            dims = value(axcl.rt.engine_get_input_dims(self.info, 0, index), "get_input_dims")
            print(f"  input  [{index}] {name.decode()} {dims} {self.inputs[index][1]} bytes")
        for index in range(axcl.rt.engine_get_num_outputs(self.info)):
            name = axcl.rt.engine_get_output_name_by_index(self.info, index)
            dims = value(axcl.rt.engine_get_output_dims(self.info, 0, index), "get_output_dims")
            print(f"  output [{index}] {name.decode()} {dims} {self.outputs[index][1]} bytes")

    def infer(self, data):
        """One run for the bytes of every input; answers those of every output."""
        for (memory, size), one in zip(self.inputs, data, strict=True):
            source = axcl.utils.bytes_to_ptr(one)
            check(axcl.rt.memcpy(memory, source, size, axcl.AXCL_MEMCPY_HOST_TO_DEVICE), "memcpy to the device")
        check(axcl.rt.engine_execute(self.model, self.engine_context, 0, self.io), "engine_execute")
        return self.fetch()

    def infer_on_stream(self, data):
        """The same, in order with other tasks of the stream."""
        for (memory, size), one in zip(self.inputs, data, strict=True):
            source = axcl.utils.bytes_to_ptr(one)
            check(axcl.rt.memcpy(memory, source, size, axcl.AXCL_MEMCPY_HOST_TO_DEVICE), "memcpy to the device")
        for memory, size in self.outputs:
            check(axcl.rt.memset(memory, 0xFF, size), "memset")
        ret = axcl.rt.engine_execute_async(self.model, self.engine_context, 0, self.io, self.stream)
        check(ret, "engine_execute_async")
        check(axcl.rt.synchronize_stream_with_timeout(self.stream, TIMEOUT_MS), "synchronize_stream")
        return self.fetch()

    def fetch(self):
        """The bytes of every output."""
        found = []
        for memory, size in self.outputs:
            host = value(axcl.rt.malloc_host(size), "malloc_host")
            check(axcl.rt.memcpy(host, memory, size, axcl.AXCL_MEMCPY_DEVICE_TO_HOST), "memcpy to the host")
            found.append(ctypes.string_at(host, size))
            check(axcl.rt.free_host(host), "free_host")
        return found

    def close(self):
        """Everything back, in the order that AXCL asks for."""
        for memory, _ in self.inputs + self.outputs:
            check(axcl.rt.free(memory), "free")
        check(axcl.rt.engine_destroy_io(self.io), "engine_destroy_io")
        check(axcl.rt.engine_destroy_io_info(self.info), "engine_destroy_io_info")
        check(axcl.rt.engine_unload(self.model), "engine_unload")
        check(axcl.rt.engine_finalize(), "engine_finalize")
        check(axcl.rt.destroy_stream(self.stream), "destroy_stream")
        check(axcl.rt.destroy_context(self.context), "destroy_context")


def work(number, device, model_path, rounds):
    """One thread."""
    try:
        worker = Worker(device, model_path)
        if number == 0:
            worker.describe()
        for turn in range(rounds):
            data = [bytes([turn % 2]) * size for _, size in worker.inputs]
            if worker.infer(data) != worker.infer_on_stream(data):
                raise RuntimeError(f"turn {turn}: the stream answers otherwise")
        worker.close()
        results[number] = "good"
    except RuntimeError as fault:
        results[number] = str(fault)


def main():
    """Two threads on the first device."""
    parser = argparse.ArgumentParser(description="Runs a model on an AXERA card, in two threads.")
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument("-r", "--rounds", type=int, default=5)
    parser.add_argument("--json", default="/usr/bin/axcl/axcl.json")
    args = parser.parse_args()

    check(axcl.init(args.json), "init")
    devices = value(axcl.rt.get_device_list(), "get_device_list")
    if not devices:
        sys.exit("no device is connected")
    check(axcl.rt.set_device(devices[0]), "set_device")
    properties = value(axcl.rt.get_device_properties(devices[0]), "get_device_properties")
    print(f"device {devices[0]}: {properties['freeCmmSize']} of {properties['totalCmmSize']} KiB free")

    threads = [threading.Thread(target=work, args=(n, devices[0], args.model, args.rounds)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    check(axcl.rt.reset_device(devices[0]), "reset_device")
    check(axcl.finalize(), "finalize")
    for number in sorted(results):
        print(f"thread {number}: {results[number]}")
    return 0 if set(results.values()) == {"good"} and len(results) == 2 else 1


if __name__ == "__main__":
    sys.exit(main())
