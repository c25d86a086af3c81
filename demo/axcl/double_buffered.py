"""Double-buffered inference: while one stream computes, the other copies.

    python -m demo.axcl.double_buffered model.onnx

Each of two streams has an engine context and buffers of its own. Inputs go to them in turn; nothing is awaited until
both are full. What comes out is compared with the same inputs one by one.
"""

import sys

import numpy as np

from leasehold import runtime

BATCHES = 8


class Lane:
    """A stream with what a run needs: an engine context, and a buffer for every input and output."""

    def __init__(self, device, context, model):
        self.stream = context.create_stream()
        self.execution, self.io = model.create_execution(), model.create_io()
        self.inputs = [device.malloc(tensor.size(0)) for tensor in model.info.inputs]
        self.outputs = [device.malloc(tensor.size(0)) for tensor in model.info.outputs]
        for index, memory in enumerate(self.inputs):
            self.io.set_input(index, memory.address, memory.size)
        for index, memory in enumerate(self.outputs):
            self.io.set_output(index, memory.address, memory.size)

    def submit(self, arrays, results):
        """Copies in, runs and copies out, in this order, and returns at once."""
        for memory, array in zip(self.inputs, arrays, strict=True):
            self.stream.memcpy(memory, array, memory.size)
        self.stream.execute(self.execution, self.io)
        for memory, result in zip(self.outputs, results, strict=True):
            self.stream.memcpy(result, memory, memory.size)


def arrays_of(tensors, fill):
    """An array for each tensor."""
    return [np.full(tensor.shapes[0], fill, tensor.dtype) for tensor in tensors]


def main():
    """The same batches through one lane with a wait for each, and through two without."""
    with runtime.device(runtime.devices()[0].id) as device, device.create_context() as context:
        runtime.engine_init(runtime.VNpuKind.DISABLE)
        with runtime.load(sys.argv[1]) as model:
            lanes = [Lane(device, context, model) for _ in range(2)]
            batches = [arrays_of(model.info.inputs, number) for number in range(BATCHES)]
            one_by_one = [arrays_of(model.info.outputs, 0) for _ in batches]
            for batch, results in zip(batches, one_by_one, strict=True):
                lanes[0].submit(batch, results)
                lanes[0].stream.synchronize()
            in_turn = [arrays_of(model.info.outputs, 0) for _ in batches]
            for number, (batch, results) in enumerate(zip(batches, in_turn, strict=True)):
                lanes[number % 2].submit(batch, results)
            context.synchronize()
        runtime.engine_finalize()
    same = all(
        np.array_equal(one, other)
        for mine, theirs in zip(one_by_one, in_turn, strict=True)
        for one, other in zip(mine, theirs, strict=True)
    )
    print(f"{BATCHES} batches in two lanes: {'the same' if same else 'not the same'}")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
