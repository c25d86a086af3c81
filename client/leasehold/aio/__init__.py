"""The same names with ``await``: for programs that live on an event loop.

    async with await leasehold.aio.connect() as client:
        async with await client.acquire(memory="512MiB", cores=1, streams=2, wait=30.0) as lease:
            model = await lease.load("model.onnx")
            out = await model.run({"x": x}, stream=lease.stream(0))

Work on streams and models runs in the threads of their streams, as with the blocking client; only waiting differs.
"""

from leasehold.aio.client import Client, connect
from leasehold.aio.lease import Lease, Model, Stream, Task

__all__ = ["Client", "Lease", "Model", "Stream", "Task", "connect"]
