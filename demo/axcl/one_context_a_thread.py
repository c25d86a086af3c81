"""Each thread has a context of its own, and so needs no order with the others: the way AXCL recommends.

rmctl run --axcl-python -- demo/axcl/one_context_a_thread.py
"""

import sys
import threading

import axcl

THREADS, BYTES = 4, 64 << 10
good = []


def work(device, number):
    """Binds its own context, uses the device, and is unbound again at the end."""
    context, ret = axcl.rt.create_context(device)
    if ret != axcl.AXCL_SUCC:
        return
    memory, ret = axcl.rt.malloc(BYTES, axcl.AXCL_MEM_MALLOC_NORMAL_ONLY)
    sent, back = bytes([number]) * BYTES, bytearray(BYTES)
    if ret == axcl.AXCL_SUCC:
        to_device = axcl.rt.memcpy(memory, sent, BYTES, axcl.AXCL_MEMCPY_HOST_TO_DEVICE)
        to_host = axcl.rt.memcpy(back, memory, BYTES, axcl.AXCL_MEMCPY_DEVICE_TO_HOST)
        axcl.rt.free(memory)
        if (to_device, to_host) == (0, 0) and bytes(back) == sent:
            good.append(number)
    axcl.rt.destroy_context(context)


def main():
    """One device, set once; the threads only bind to it."""
    axcl.init()
    devices, _ = axcl.rt.get_device_list()
    axcl.rt.set_device(devices[0])
    threads = [threading.Thread(target=work, args=(devices[0], number)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    axcl.rt.reset_device(devices[0])
    axcl.finalize()
    print(f"{len(good)} of {THREADS} threads had their own bytes back")
    return 0 if len(good) == THREADS else 1


if __name__ == "__main__":
    sys.exit(main())
