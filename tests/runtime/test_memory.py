"""Device and host memory: what it takes of the card, who may use it, and how long it stays."""

import ctypes

import pytest

from leasehold import runtime
from leasehold.runtime import Code, Fault, MemcpyKind, memory_ops
from leasehold.runtime.host_memory import free_host, malloc_host

UNIT, PAGE = 64 << 10, 4096


def used(cards, card: int = 0) -> int:
    pool = cards.cards()[card].pool("memory")
    return int(pool.used) * pool.unit_bytes


def place(block) -> int:
    """Where on the card it lies."""
    return block.address & ((1 << 40) - 1)


def code_of(fn, *args, **kwargs) -> Code:
    with pytest.raises(Fault) as fault:
        fn(*args, **kwargs)
    return fault.value.code


def held_back(context):
    """A stream that waits, and what lets it go."""
    stream, event = context.create_stream(), context.activation.create_event()
    stream.wait(event)
    return stream, lambda: event.record(context.default_stream)


def test_small_blocks_share_a_unit_of_the_card_and_the_last_gives_it_back(cards, device) -> None:
    blocks = [device.malloc(PAGE) for _ in range(UNIT // PAGE)]
    assert used(cards) == UNIT
    blocks.append(device.malloc(1))
    assert used(cards) == 2 * UNIT
    for block in blocks[:-1]:
        block.free()
    assert used(cards) == UNIT
    blocks[-1].free()
    assert used(cards) == 0


def test_an_address_is_the_place_on_the_card_and_differs_between_devices(rt, device) -> None:
    rt.set_device(1)
    here, there = device.malloc(UNIT), rt.device(1).malloc(UNIT)
    assert (here.address >> 56, there.address >> 56) == (1, 2)
    assert [place(block) for block in (here, there, device.malloc(UNIT))] == [0, 0, UNIT]


def test_what_was_freed_is_taken_again_but_its_address_never_means_the_next_block(context, device) -> None:
    first, second = device.malloc(PAGE), device.malloc(PAGE)
    first.free()
    third = device.malloc(PAGE)
    assert (place(third), place(second)) == (place(first), place(first) + PAGE)
    assert code_of(first.free) is Code.NOT_DEVICE_MEMORY
    assert code_of(context.memset, first, 1, PAGE) is Code.NOT_DEVICE_MEMORY
    context.memset(third, 1, PAGE)


@pytest.mark.parametrize("size", [0, -1, 1 << 32, 1.5, "4096", None, True])
def test_no_size_is_refused(device, size) -> None:
    assert code_of(device.malloc, size) is Code.MEMORY_ILLEGAL


def test_the_end_of_memory_is_told_and_leaves_everything_as_it_was(cards, device) -> None:
    block = device.malloc(32 << 20)
    assert code_of(device.malloc, 33 << 20) is Code.MEMORY_FAILED
    assert used(cards) == 32 << 20
    block.free()
    device.malloc(64 << 20).free()


def test_copies_of_every_kind(context, device) -> None:
    one, other = device.malloc(5000), device.malloc(5000)
    data, back = bytes(range(250)) * 20, bytearray(5000)
    context.memcpy(one, data, 5000)
    context.memcpy(other.address + 1000, one, 4000)
    context.memcpy(back, other, 5000)
    assert back[1000:] == data[:4000]
    runtime.memcpy(back, data, 5000)
    assert bytes(back) == data


def test_a_buffer_that_cannot_be_written_is_no_target(context, device) -> None:
    block = device.malloc(64)
    assert code_of(context.memcpy, bytes(64), block, 64) is Code.MEMORY_ILLEGAL
    assert code_of(context.memcpy, bytearray(63), block, 64) is Code.MEMORY_ILLEGAL
    assert code_of(context.memcpy, 1.5, block, 64) is Code.MEMORY_ILLEGAL


def test_the_end_of_a_block_is_kept_though_its_window_goes_on(context, device) -> None:
    block, behind = device.malloc(100), device.malloc(PAGE)
    context.memset(behind, 7, PAGE)
    for target, count in ((block.address, 101), (block.address + 99, 2), (block.address + 100, 1)):
        wanted = Code.NOT_DEVICE_MEMORY if target == block.address + 100 else Code.MEMORY_ILLEGAL
        assert code_of(context.memset, target, 1, count) is wanted
    back = bytearray(PAGE)
    context.memcpy(back, behind, PAGE)
    assert set(back) == {7}


def test_a_null_or_mad_address_is_an_answer(context, device) -> None:
    block = device.malloc(64)
    assert code_of(context.memcpy, 0, block, 64) is Code.MEMORY_NULL
    assert code_of(context.memcpy, block, 0x1000, 64) is Code.MEMORY_FAILED
    assert code_of(context.memcpy, -5, block, 64) is Code.MEMORY_ILLEGAL
    assert code_of(context.memset, 1 << 70, 0, 64) is Code.MEMORY_ILLEGAL
    assert code_of(context.memset, block, 256, 64) is Code.MEMORY_ILLEGAL
    assert code_of(context.memset, block, 0, 0) is Code.MEMORY_ILLEGAL


@pytest.mark.parametrize("kind", [6, -1, "1", None])
def test_an_unknown_kind_is_refused(context, device, kind) -> None:
    block = device.malloc(64)
    assert code_of(memory_ops.memcpy, context, block, bytes(64), 64, kind) is Code.MEMORY_ILLEGAL


def test_the_wrong_side_of_a_copy_is_refused(context, device) -> None:
    block, host = device.malloc(64), malloc_host(64)
    host_to_device, device_to_host = MemcpyKind.HOST_TO_DEVICE, MemcpyKind.DEVICE_TO_HOST
    assert code_of(memory_ops.memcpy, context, host, block, 64, host_to_device) is Code.NOT_DEVICE_MEMORY
    assert code_of(memory_ops.memcpy, context, block, block, 64, host_to_device) is Code.MEMORY_ILLEGAL
    assert code_of(memory_ops.memcpy, context, host, host, 64, device_to_host) is Code.NOT_DEVICE_MEMORY
    assert code_of(memory_ops.memcpy, context, host, host, 64, MemcpyKind.HOST_PHY_TO_DEVICE) is Code.MEMORY_UNSUPPORTED
    free_host(host)


def test_memory_of_another_device_is_refused_whatever_is_done_with_it(rt, context, device) -> None:
    rt.set_device(1)
    there = rt.device(1).malloc(64)
    here = device.malloc(64)
    assert code_of(context.memcpy, here, there, 64) is Code.NOT_DEVICE_MEMORY
    assert code_of(context.memset, there, 0, 64) is Code.NOT_DEVICE_MEMORY
    assert code_of(memory_ops.memcmp, context, here, there, 64) is Code.NOT_DEVICE_MEMORY
    assert code_of(device.default_context.activation.arena.free, there.address) is Code.NOT_DEVICE_MEMORY


def test_a_block_that_is_freed_stays_for_the_work_that_uses_it(cards, context, device) -> None:
    stream, let_go = held_back(context)
    block, back = device.malloc(UNIT), bytearray(UNIT)
    stream.memset(block, 3, UNIT)
    stream.memcpy(back, block, UNIT)
    block.free()
    assert used(cards) == UNIT
    assert code_of(stream.memset, block, 3, UNIT) is Code.NOT_DEVICE_MEMORY
    assert place(device.malloc(UNIT)) != place(block)
    let_go()
    stream.synchronize()
    assert set(back) == {3}
    assert used(cards) == UNIT  # that of the other block


def test_freed_twice_is_told(device) -> None:
    block = device.malloc(64)
    block.free()
    assert code_of(block.free) is Code.NOT_DEVICE_MEMORY


def test_a_block_outlives_no_reset(rt, device) -> None:
    block = device.malloc(64)
    rt.reset_device(0)
    rt.set_device(0)
    assert code_of(block.free) is Code.MEMORY_LOST
    assert code_of(rt.device(0).default_context.memset, block, 0, 64) is Code.NOT_DEVICE_MEMORY


def test_host_memory_has_bounds_and_ends_once(context, device) -> None:
    host, block = malloc_host(100), device.malloc(4096)
    context.memcpy(block, host, 100)
    assert code_of(context.memcpy, block, host, 101) is Code.MEMORY_ILLEGAL
    free_host(host)
    assert code_of(free_host, host) is Code.MEMORY_ILLEGAL
    assert code_of(context.memcpy, block, host, 100) is Code.MEMORY_FAILED


def test_host_memory_stays_for_the_work_that_uses_it(context, device) -> None:
    stream, let_go = held_back(context)
    host, block, back = malloc_host(4096), device.malloc(4096), bytearray(4096)
    ctypes.memset(host, 9, 4096)
    stream.memcpy(block, host, 4096)
    free_host(host)
    let_go()
    stream.memcpy(back, block, 4096)
    stream.synchronize()
    assert set(back) == {9}


def test_a_copy_within_the_host_is_none_of_a_stream(context) -> None:
    stream = context.create_stream()
    assert code_of(stream.memcpy, bytearray(8), bytes(8), 8) is Code.MEMORY_UNSUPPORTED


def test_hundreds_of_blocks_need_no_more_than_the_leases_can_have(cards, device) -> None:
    blocks = [device.malloc(UNIT) for _ in range(300)]
    assert used(cards) == 300 * UNIT
    for block in blocks:
        block.free()
    assert used(cards) == 0
