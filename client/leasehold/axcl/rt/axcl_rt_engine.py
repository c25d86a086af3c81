"""The engine: modes and models, what goes into them and comes out, engine contexts and runs."""

from leasehold.axcl.answers import number, ret, value_ret
from leasehold.axcl.rt import axcl_rt_engine_io, axcl_rt_engine_model
from leasehold.axcl.rt.axcl_rt_engine_io import *  # noqa: F403 - the vendor has them all in this one module
from leasehold.axcl.rt.axcl_rt_engine_io import io_of
from leasehold.axcl.rt.axcl_rt_engine_model import *  # noqa: F403
from leasehold.axcl.rt.axcl_rt_engine_model import engine_of_thread, model_of
from leasehold.axcl.rt.axcl_rt_stream import stream_of
from leasehold.runtime import IO, Code, Execution, Fault, default_runtime

__all__ = ["engine_create_context", "engine_execute", "engine_execute_async"]
__all__ += axcl_rt_engine_io.__all__
__all__ += axcl_rt_engine_model.__all__


@value_ret(0)
def engine_create_context(model_id: int) -> int:
    """An engine context of a model; it ends with the model."""
    return model_of(engine_of_thread(), model_id).create_execution().id


@ret
def engine_execute(model_id: int, context_id: int, group: int, io: int) -> None:
    """Runs a model on the default stream of this thread's current context, and waits for it."""
    execution, buffers = _run(model_id, context_id, group, io)
    execution.run(buffers, group=group)


@ret
def engine_execute_async(model_id: int, context_id: int, group: int, io: int, stream: int) -> None:
    """Runs a model in order with the other tasks of a stream; a null stream is the default one."""
    execution, buffers = _run(model_id, context_id, group, io)
    target = stream_of(stream) if number(stream) else default_runtime().current_context().default_stream
    execution.submit(buffers, group=group, stream=target)


def _run(model_id: int, context_id: int, group: int, io: int) -> tuple[Execution, IO]:
    buffers = io_of(io)
    engine = engine_of_thread()
    if type(group) is not int:
        raise Fault(Code.ENGINE_ILLEGAL, f"a group is a whole number, not {group!r}")
    return engine.execution(model_of(engine, model_id), number(context_id)), buffers
