"""AXCL's rules as a model: what each call must answer, given all calls before it. Knows nothing of leases.

Threads, devices and handles are whatever a test uses for them; every method answers the code that the library must, and
does to the model what the call does to the library. Contents of memory are kept as bytes.
"""

from dataclasses import dataclass, field

OK = 0
NOT_ACTIVE, INVALID_DEVICE, NO_ACTIVE_DEVICE = 0x80300183, 0x80300184, 0x80300185
CONTEXT_NULL, CONTEXT_DESTROY, NO_CONTEXT, CONTEXT_NOT_EXIST = 0x80300202, 0x80300282, 0x80300284, 0x80305224
STREAM_NULL, STREAM_ILLEGAL, STREAM_DESTROY, FAIL = 0x80300302, 0x80300303, 0x80300382, 0xFFFFFFFF
STREAM_NOT_EXIST, EVENT_NOT_EXIST = 0x80305223, 0x8030522E
MEMORY_NULL, MEMORY_ILLEGAL, MEMORY_UNSUPPORTED, NOT_DEVICE_MEMORY = 0x80300502, 0x80300503, 0x80300504, 0x80300581
ENGINE_ILLEGAL, ENGINE_FAILED = 0x80300703, 0x8030070C
KINDS, POLICIES, MODES = range(6), range(4), range(4)


@dataclass(eq=False)
class Context:
    device: int
    is_default: bool
    is_live: bool = True


@dataclass(eq=False)
class Stream:
    context: Context
    is_live: bool = True

    @property
    def works(self) -> bool:
        return self.is_live and self.context.is_live


@dataclass(eq=False)
class Event:
    device: int
    is_live: bool = True
    is_recorded: bool = False


@dataclass(eq=False)
class Block:
    """``unsettled`` are streams with work on it that nobody has waited for: its bytes are not known."""

    device: int
    data: bytearray | None
    size: int
    is_live: bool = True
    unsettled: set[Stream] = field(default_factory=set)


class Rules:
    """The state of one process."""

    def __init__(self, devices: tuple[int, ...]) -> None:
        self.counts = dict.fromkeys(devices, 0)
        self.defaults: dict[int, Context] = {}
        self.contexts: list[Context] = []
        self.streams: list[Stream] = []
        self.events: list[Event] = []
        self.blocks: list[Block] = []
        self.bound: dict[int, Context] = {}
        self.engine: dict[int, tuple[int, int]] = dict.fromkeys(devices, (0, 0))  # mode, count

    # Devices.

    def set_device(self, thread: int, device: int) -> int:
        if device not in self.counts:
            return INVALID_DEVICE
        if not self.counts[device]:
            self._activate(device)
        else:
            self.counts[device] += 1
        current = self.current(thread)
        if current is None or current.device != device:
            self.bound[thread] = self.defaults[device]
        return OK

    def reset_device(self, device: int) -> int:
        if device not in self.counts:
            return INVALID_DEVICE
        if not self.counts[device]:
            return NOT_ACTIVE
        self.counts[device] -= 1
        if not self.counts[device]:
            self._deactivate(device)
        return OK

    def get_device(self, thread: int) -> tuple[int, int | None]:
        current = self.current(thread)
        return (NO_ACTIVE_DEVICE, None) if current is None else (OK, current.device)

    # Contexts.

    def create_context(self, thread: int, device: int) -> tuple[int, Context | None]:
        if device not in self.counts:
            return INVALID_DEVICE, None
        if not self.counts[device]:
            self._activate(device)
        made = Context(device, is_default=False)
        self.contexts.append(made)
        self.bound[thread] = made
        return OK, made

    def destroy_context(self, context: Context | None) -> int:
        if context is None or not context.is_live:
            return CONTEXT_NOT_EXIST
        if context.is_default:
            return CONTEXT_DESTROY
        self._end(context)
        return OK

    def set_current_context(self, thread: int, context: Context | None) -> int:
        if context is None or not context.is_live:
            return CONTEXT_NOT_EXIST
        self.bound[thread] = context
        return OK

    def current(self, thread: int) -> Context | None:
        context = self.bound.get(thread)
        return context if context is not None and context.is_live else None

    # Streams and events.

    def create_stream(self, thread: int) -> tuple[int, Stream | None]:
        current = self.current(thread)
        if current is None:
            return NO_CONTEXT, None
        made = Stream(current)
        self.streams.append(made)
        return OK, made

    def destroy_stream(self, stream: Stream | None) -> int:
        if stream is None or not stream.works:
            return STREAM_DESTROY
        stream.is_live = False
        self._settle(stream)
        return OK

    def synchronize_stream(self, stream: Stream | None) -> int:
        if stream is None or not stream.works:
            return FAIL
        self._settle(stream)
        return OK

    def synchronize_device(self, thread: int) -> int:
        current = self.current(thread)
        for stream in self.streams:
            if current is not None and stream.context.device == current.device:
                self._settle(stream)
        return OK

    def create_event(self, thread: int) -> tuple[int, Event | None]:
        current = self.current(thread)
        if current is None:
            return NO_ACTIVE_DEVICE, None
        made = Event(current.device)
        self.events.append(made)
        return OK, made

    def destroy_event(self, event: Event | None) -> int:
        if event is None or not event.is_live:
            return EVENT_NOT_EXIST
        event.is_live = False
        return OK

    def order(self, event: Event | None, stream: Stream | None, *, records: bool) -> int:
        """Records an event in a stream, or has the stream wait for it."""
        if event is None or not event.is_live:
            return EVENT_NOT_EXIST
        if stream is None or not stream.works:
            return STREAM_NOT_EXIST
        if stream.context.device != event.device:
            return STREAM_ILLEGAL
        event.is_recorded = event.is_recorded or records
        return OK

    # Memory.

    def malloc(self, thread: int, size: int, policy: int) -> tuple[int, Block | None]:
        current = self.current(thread)
        if current is None:
            return NO_CONTEXT, None
        if policy not in POLICIES or size < 1:
            return MEMORY_ILLEGAL, None
        made = Block(current.device, None, size)
        self.blocks.append(made)
        return OK, made

    def free(self, thread: int, block: Block | None) -> int:
        current = self.current(thread)
        if current is None:
            return NO_CONTEXT
        if self._fits(current, block, 1) != OK:
            return NOT_DEVICE_MEMORY
        block.is_live = False
        return OK

    def memset(self, thread: int, block: Block | None, value: int, size: int, stream: Stream | None = None) -> int:
        """At once, or on ``stream``, which must be one that works."""
        answer = self._may(thread, size, (block,), stream)
        if answer == OK:
            self._write(block, bytes([value]) * size, stream)
        return answer

    def copy_in(self, thread: int, block: Block | None, data: bytes, stream: Stream | None = None) -> int:
        answer = self._may(thread, len(data), (block,), stream)
        if answer == OK:
            self._write(block, data, stream)
        return answer

    def copy_out(self, thread: int, block: Block | None, size: int) -> tuple[int, bytes | None]:
        """The code, and the bytes where they are known."""
        answer = self._may(thread, size, (block,), None)
        if answer != OK:
            return answer, None
        is_known = block.data is not None and not block.unsettled
        return OK, bytes(block.data[:size]) if is_known else None

    def copy_within(self, thread: int, target: Block | None, source: Block | None, size: int) -> int:
        answer = self._may(thread, size, (target, source), None)
        if answer == OK:
            is_known = source.data is not None and not source.unsettled
            self._write(target, bytes(source.data[:size]) if is_known else None, None)
        return answer

    # The engine.

    def engine_init(self, thread: int, mode: int) -> int:
        if mode not in MODES:
            return NO_CONTEXT if self.current(thread) is None else ENGINE_ILLEGAL
        current = self.current(thread)
        if current is None:
            return NO_CONTEXT
        now, count = self.engine[current.device]
        if count and now != mode:
            return ENGINE_FAILED
        self.engine[current.device] = (mode, count + 1)
        return OK

    def engine_finalize(self, thread: int) -> int:
        current = self.current(thread)
        if current is None:
            return NO_CONTEXT
        mode, count = self.engine[current.device]
        if not count:
            return ENGINE_FAILED
        self.engine[current.device] = (mode, count - 1)
        return OK

    def engine_kind(self, thread: int) -> tuple[int, int]:
        current = self.current(thread)
        if current is None:
            return NO_CONTEXT, 0
        mode, count = self.engine[current.device]
        return OK, mode if count else 0

    # Inside.

    def _activate(self, device: int) -> None:
        self.counts[device] = 1
        self.defaults[device] = Context(device, is_default=True)
        self.contexts.append(self.defaults[device])

    def _deactivate(self, device: int) -> None:
        self.engine[device] = (0, 0)
        for context in self.contexts:
            if context.device == device and context.is_live:
                self._end(context)
        for one in (*self.events, *self.blocks):
            if one.device == device:
                one.is_live = False

    def _end(self, context: Context) -> None:
        context.is_live = False
        for stream in self.streams:
            if stream.context is context:
                self._settle(stream)

    def _settle(self, stream: Stream) -> None:
        for block in self.blocks:
            block.unsettled.discard(stream)

    def _may(self, thread: int, size: int, blocks: tuple[Block | None, ...], stream: Stream | None) -> int:
        current = self.current(thread)
        if stream is not None and not stream.works:
            return STREAM_NOT_EXIST
        if current is None:
            return NO_CONTEXT
        if stream is not None and stream.context.device != current.device:
            return STREAM_ILLEGAL
        if size < 1:
            return MEMORY_ILLEGAL
        return next((answer for block in blocks if (answer := self._fits(current, block, size)) != OK), OK)

    @staticmethod
    def _fits(current: Context, block: Block | None, size: int) -> int:
        if block is None or not block.is_live or block.device != current.device:
            return NOT_DEVICE_MEMORY
        return OK if size <= block.size else MEMORY_ILLEGAL

    @staticmethod
    def _write(block: Block, data: bytes | None, stream: Stream | None) -> None:
        """Puts ``data`` at the start. What else has work on the block may come before it or after."""
        is_alone = not (block.unsettled - {stream})
        if data is None or not is_alone:
            block.data = None
        elif block.data is not None:
            block.data[: len(data)] = data
        elif len(data) == block.size:
            block.data = bytearray(data)
        if stream is not None:
            block.unsettled.add(stream)
