"""The engine of one device in one process: its vNPU mode, its models, and the cores that run them.

The mode is the card's: a unit of the pool ``vnpu`` holds it, and the daemon keeps other modes away, or has them wait,
until the last process with this one has gone. Cores are taken with each model and engine context where the card has
some left; without, work runs on whatever CPU is free.
"""

import itertools
import threading
from typing import TYPE_CHECKING

from leasehold.card import Card
from leasehold.claims import FirstOf, Units
from leasehold.errors import LeaseholdError
from leasehold.runtime import session as sessions
from leasehold.runtime.codes import Code, Fault
from leasehold.runtime.execution import Execution, LoadedModel
from leasehold.runtime.holding import Held, refused_as
from leasehold.runtime.model_file import ModelFile
from leasehold.runtime.vnpu import SITE_OF, ModelKind, VNpuKind, check_affinity, check_takes, parts_for, vnpu_kind

if TYPE_CHECKING:
    from leasehold.runtime.activation import Activation
    from leasehold.runtime.context import Context

MODE_POOL = "vnpu"
_ids = itertools.count(1)  # of models and of engine contexts, in all devices: one that is gone is never met again


class Engine:
    """Thread-safe."""

    def __init__(self, activation: "Activation", card: Card) -> None:
        self.activation = activation
        self._card_id = card.id
        self._has_modes = any(pool.name == MODE_POOL for pool in card.pools)
        self._core_count = next((int(pool.total) for pool in card.pools if pool.name == "cores"), 0)
        self._lock = threading.Lock()
        self._changing = threading.Lock()  # the mode; held while the daemon is asked
        self._kind = VNpuKind.DISABLE
        self._init_count = 0
        self._is_closed = False
        self._mode: Held | None = None
        self._late_modes: list[Held] = []  # given up, but for runs that have not ended yet
        self._ending: set[LoadedModel] = set()  # unloaded, but for their runs
        self._models: dict[int, LoadedModel] = {}
        self._executions: dict[int, Execution] = {}

    # The mode.

    def init(self, kind: int, *, wait: float = 0.0) -> None:
        """Uses the engine once more, in a vNPU mode; waits up to ``wait`` seconds for a card that is in another.

        Raises:
            Fault: there is no such mode, or the card or this process is in another: the text says who holds it.
        """
        wanted = vnpu_kind(kind)
        self.activation.check(Code.ENGINE_LOST)
        with self._changing:
            if self._init_count and wanted is not self._kind:
                text = f"this process uses the engine in mode {SITE_OF[self._kind]}; finalize it first"
                raise Fault(Code.ENGINE_FAILED, text)
            mode = None
            if not self._init_count and self._has_modes:
                with refused_as(Code.ENGINE_FAILED, lost=Code.ENGINE_LOST):
                    (mode,) = self.activation.holding.hold(Units(MODE_POOL, 1, at=[SITE_OF[wanted]]), wait=wait)
            with self._lock:
                if self._is_closed:
                    raise Fault(Code.NO_CONTEXT, "the device was reset")
                self._kind, self._mode = wanted, mode or self._mode
                self._init_count += 1

    def finalize(self) -> None:
        """Uses the engine once less; after the last time its models are unloaded, and the mode is given back.

        Runs that were submitted end first: the card keeps the mode for as long.

        Raises:
            Fault: it is not in use.
        """
        with self._changing:
            with self._lock:
                if not self._init_count:
                    raise Fault(Code.ENGINE_FAILED, "the engine is not in use on this device")
                self._init_count -= 1
                if self._init_count:
                    return
                mode, self._mode = self._mode, None
            self._end_models()
            with self._lock:
                self._late_modes += [mode] if mode is not None else []
            with refused_as(Code.ENGINE_FAILED, lost=Code.ENGINE_LOST):
                self._drop_late_modes()

    def kind(self) -> VNpuKind:
        """The mode that this process uses; else that of the card, whoever holds it; else ``DISABLE``."""
        if self._init_count:
            return self._kind
        with refused_as(Code.ENGINE_FAILED, lost=Code.ENGINE_LOST):
            leases = self.activation.runtime.client.leases(MODE_POOL) if self._has_modes else []
        sites = [
            str(site)
            for lease in leases
            if lease.card == self._card_id
            for allotment in lease.allotments
            if allotment.pool == MODE_POOL
            for site in allotment.at
        ]
        return next((kind for kind, site in SITE_OF.items() if site in sites), VNpuKind.DISABLE)

    # Models.

    def load(self, file: ModelFile) -> LoadedModel:
        """Loads a model, and takes over its file.

        Raises:
            Fault: the engine is not in use or in a mode that does not take it, no room, or the lease is lost.
        """
        try:
            self._check_in_use()
            split = self._kind
            check_takes(split, file.kind)
            session, cores = self._load_session(file)
        except BaseException:
            file.close()
            raise
        model = LoadedModel(self, next(_ids), file, session, cores, affinity=parts_for(split, file.kind))
        with self._lock:
            if self._init_count:
                self._models[model.id] = model
                return model
            self._ending.add(model)
        model.end()
        raise Fault(Code.ENGINE_FAILED, "the engine was finalized meanwhile")

    def usage(self, file: ModelFile) -> int:
        """Bytes of the card that a model will take. It is loaded and unloaded for that.

        Raises:
            Fault: no room, or the lease is lost.
        """
        self.activation.check(Code.ENGINE_LOST)
        session = sessions.load(file, self.activation.holding, ())
        session.close(self.activation.holding)
        return session.memory_bytes

    def model(self, model_id: object) -> LoadedModel:
        """A loaded model of this device.

        Raises:
            Fault: there is none of this id, or not any more.
        """
        with self._lock:
            found = self._models.get(model_id) if type(model_id) is int else None
        if found is None:
            raise Fault(Code.ENGINE_ILLEGAL, f"this device has no model {model_id!r}")
        return found

    def execution(self, model: LoadedModel, execution_id: object) -> Execution:
        """An engine context of a model.

        Raises:
            Fault: the model has none of this id.
        """
        with self._lock:
            found = self._executions.get(execution_id) if type(execution_id) is int else None
        if found is None or found.model is not model:
            raise Fault(Code.ENGINE_ILLEGAL, f"model {model.id} has no engine context {execution_id!r}")
        return found

    def unload(self, model: LoadedModel) -> None:
        """Ends a model; what was submitted ends first, and its memory is back then.

        Raises:
            Fault: it was unloaded already.
        """
        with self._lock:
            if self._models.pop(model.id, None) is None:
                raise Fault(Code.ENGINE_ILLEGAL, f"model {model.id} was unloaded already")
            self._executions = {key: one for key, one in self._executions.items() if one.model is not model}
            self._ending.add(model)
        with refused_as(Code.ENGINE_FAILED, lost=Code.ENGINE_LOST):
            model.end()

    def set_affinity(self, model: LoadedModel, affinity: int) -> None:
        """Names the parts of the split NPU that may run a model.

        Raises:
            Fault: none, or one that is not there or too small.
        """
        model.affinity = check_affinity(self._kind, model.kind, affinity)

    def create_execution(self, model: LoadedModel) -> Execution:
        """An engine context of a model.

        Raises:
            Fault: the model was unloaded, or its file changed, or the card has no memory for it once more.
        """
        self._check_in_use()
        session = model.take_unused()
        if session is None:
            model.file.check_unchanged()
            session, cores = self._load_session(model.file)
            if not model.add(session, cores):
                session.close(self.activation.holding)
                self.drop_cores(cores)
                raise Fault(Code.ENGINE_ILLEGAL, f"model {model.id} was unloaded")
        execution = Execution(next(_ids), model, session)
        with self._lock:
            self._executions[execution.id] = execution
        return execution

    def close(self) -> None:
        """Ends all models, for good; their leases are the holding's to end."""
        with self._lock:
            self._is_closed, self._init_count = True, 0
        self._end_models()

    def forget(self, model: LoadedModel) -> None:
        """The last run of an unloaded model has ended, and what it had is back."""
        with self._lock:
            self._ending.discard(model)
        self._drop_late_modes()

    def current_context(self) -> "Context":
        """This thread's current context, which must be of this device.

        Raises:
            Fault: it has none, or one of another device.
        """
        context = self.activation.runtime.current_context()
        if context.activation is not self.activation:
            raise Fault(Code.ENGINE_ILLEGAL, "the model belongs to another device than the current context")
        return context

    # Cores.

    def drop_cores(self, cores: list[Held]) -> None:
        """Gives cores back."""
        if cores:
            self.activation.holding.drop(*cores)
            self.activation.use_cores()

    def _load_session(self, file: ModelFile) -> tuple[sessions.Session, list[Held]]:
        cores = self._take_cores(file.kind)
        try:
            return sessions.load(file, self.activation.holding, self.activation.cpus[: file.kind.core_count]), cores
        except BaseException:
            self.drop_cores(cores)
            raise

    def _take_cores(self, kind: ModelKind) -> list[Held]:
        """Cores for a model, as many as it is for or as there are; none where all are others'."""
        most = min(kind.core_count, self._core_count)
        if not most:
            return []
        try:
            claim = FirstOf(*(Units("cores", count) for count in range(most, 0, -1)))
            cores = list(self.activation.holding.hold(claim))
        except LeaseholdError:
            return []
        self.activation.use_cores()
        return cores

    def _check_in_use(self) -> None:
        self.activation.check(Code.ENGINE_LOST)
        if not self._init_count:
            raise Fault(Code.ENGINE_FAILED, "the engine is not in use on this device; init it first")

    def _end_models(self) -> None:
        with self._lock:
            models, self._models, self._executions = list(self._models.values()), {}, {}
            self._ending.update(models)
        for model in models:
            model.end()

    def _drop_late_modes(self) -> None:
        with self._lock:
            modes = [] if self._ending else self._late_modes
            self._late_modes = self._late_modes if self._ending else []
        self.activation.holding.drop(*modes)
