"""What happens at the end of memory: an answer, and everything else goes on.

rmctl run --axcl-python -- demo/axcl/end_of_memory.py
"""

import sys

import axcl

BLOCK_BYTES = 4 << 20
OUT_OF_MEMORY = 0x8030050C  # as the real card has it: it says that the call failed, and not why


def main():
    """Takes blocks until there is no more, gives one back, and takes it again."""
    axcl.init()
    devices, _ = axcl.rt.get_device_list()
    axcl.rt.set_device(devices[0])
    blocks = []
    while True:
        address, ret = axcl.rt.malloc(BLOCK_BYTES, axcl.AXCL_MEM_MALLOC_NORMAL_ONLY)
        if ret != axcl.AXCL_SUCC:
            break
        blocks.append(address)
    print(f"{len(blocks)} blocks, then 0x{ret & 0xFFFFFFFF:08x}: {getattr(axcl, 'last_error', str)()}")
    is_told = ret & 0xFFFFFFFF == OUT_OF_MEMORY

    filled = axcl.rt.memset(blocks[0], 7, BLOCK_BYTES)  # what there is works on
    axcl.rt.free(blocks.pop())
    address, ret = axcl.rt.malloc(BLOCK_BYTES, axcl.AXCL_MEM_MALLOC_NORMAL_ONLY)
    print("one block back, and taken again" if ret == axcl.AXCL_SUCC else f"0x{ret & 0xFFFFFFFF:08x}")
    blocks.append(address)
    for block in blocks:
        axcl.rt.free(block)
    axcl.rt.reset_device(devices[0])
    axcl.finalize()
    return 0 if is_told and (filled, ret) == (0, 0) else 1


if __name__ == "__main__":
    sys.exit(main())
