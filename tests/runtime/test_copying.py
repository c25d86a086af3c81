"""Copies by the kernel: right in every direction and size, and an answer where an address is bad."""

import ctypes
import errno
import mmap
import os
import random

import pytest

from leasehold.runtime import copying

CHUNK = copying.CHUNK_BYTES
SIZES = (1, 4095, 4096, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 7)


def address_of(buffer) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))


@pytest.mark.parametrize("size", SIZES)
def test_a_copy_copies_so_many_bytes_and_no_more(size) -> None:
    source, target = bytearray(os.urandom(size)), bytearray(size + 1)
    copying.copy(address_of(target), address_of(source), size)
    assert (target[:size], target[size]) == (source, 0)


@pytest.mark.parametrize("shift", [1, -1, 4096, -4096, CHUNK, -CHUNK])
def test_an_overlapping_copy_is_as_if_by_way_of_other_memory(shift) -> None:
    size = 2 * CHUNK + 100
    memory = bytearray(random.Random(shift).randbytes(size + 2 * CHUNK))
    wanted = bytes(memory[CHUNK : CHUNK + size])
    copying.copy(address_of(memory) + CHUNK + shift, address_of(memory) + CHUNK, size)
    assert memory[CHUNK + shift : CHUNK + shift + size] == wanted


@pytest.mark.parametrize("size", [*SIZES, 1100 * 4096])
def test_a_fill_fills_so_many_bytes_and_no_more(size) -> None:
    memory = bytearray(size + 1)
    copying.fill(address_of(memory), 0xA5, size)
    assert (memory.count(0xA5), memory[size]) == (size, 0)


@pytest.mark.parametrize("size", SIZES)
def test_a_comparison_sees_the_last_byte(size) -> None:
    one = bytearray(random.Random(size).randbytes(size))
    other = bytearray(one)
    assert copying.are_equal(address_of(one), address_of(other), size)
    other[-1] ^= 1
    assert not copying.are_equal(address_of(one), address_of(other), size)


def test_an_address_that_is_not_mapped_is_an_answer() -> None:
    memory = bytearray(64)
    for target, source in ((address_of(memory), 0x1000), (0x1000, address_of(memory))):
        with pytest.raises(copying.BadAddress):
            copying.copy(target, source, 64)


def test_memory_that_was_taken_back_is_an_answer() -> None:
    fd = os.memfd_create("window")
    os.ftruncate(fd, 1 << 16)
    with mmap.mmap(fd, 1 << 16) as window:
        os.ftruncate(fd, 0)
        with pytest.raises(copying.BadAddress):
            copying.fill(address_of(window), 1, 64)
    os.close(fd)


def test_where_the_kernel_s_copy_is_forbidden_a_plain_one_does(monkeypatch) -> None:
    class Sandbox:
        memcmp = copying._libc.memcmp

        @staticmethod
        def process_vm_readv(*asked) -> int:
            ctypes.set_errno(errno.EPERM)
            return -1

    monkeypatch.setattr(copying, "_libc", Sandbox)
    source, target = bytearray(os.urandom(CHUNK + 5)), bytearray(CHUNK + 5)
    copying.copy(address_of(target), address_of(source), CHUNK + 5)
    assert target == source
    copying.fill(address_of(target), 7, CHUNK + 4)
    assert (target.count(7, 0, CHUNK + 4), target[-1]) == (CHUNK + 4, source[-1])
