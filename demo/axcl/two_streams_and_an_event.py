"""Two streams have no order between them, until an event gives them one.

python -m demo.axcl.two_streams_and_an_event
"""

import sys

from leasehold import runtime

BYTES = 1 << 20


def main():
    """One stream fills memory; the other reads it, and must not before that is done."""
    with runtime.device(runtime.devices()[0].id) as device, device.create_context() as context:
        filling, reading = context.create_stream(), context.create_stream()
        filled = runtime.create_event()
        memory, read = device.malloc(BYTES), bytearray(BYTES)

        reading.wait(filled)  # before the record: it is for the next one
        reading.memcpy(read, memory, BYTES)
        for value in (1, 2, 3):
            filling.memset(memory, value, BYTES)
        filling.record(filled)
        reading.synchronize(timeout=10)

        print(f"the reader saw {set(read)}")
        memory.free()
        return 0 if set(read) == {3} else 1


if __name__ == "__main__":
    sys.exit(main())
