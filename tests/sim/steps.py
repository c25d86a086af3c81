"""The dice: which step comes next."""

from itertools import accumulate

from sim.admin_steps import AdminSteps
from sim.client_steps import ClientSteps
from sim.host_steps import HostSteps
from sim.world import World

_ALWAYS = {"spawn", "acquire", "start", "sync", "pass_time", "make_room"}


class Steps:
    """Chooses among all steps; one that is not possible now does nothing, and another is chosen."""

    def __init__(self, world: World) -> None:
        """Some seeds do much of one thing and nothing of another: what is rare among all is common in a few."""
        self.random = world.random
        self.clients, self.host, self.admin = ClientSteps(world), HostSteps(world), AdminSteps(world)
        weights = self.clients.weights() | self.host.weights() | self.admin.weights()
        self._steps = list(weights)
        chosen = [
            weight if step.__name__ in _ALWAYS else weight * self.random.choice((0, 0.5, 1, 1, 2, 4))
            for step, weight in weights.items()
        ]
        self._summed_weights = list(accumulate(chosen))

    def step(self) -> None:
        """Does one thing that is possible."""
        while not self.random.choices(self._steps, cum_weights=self._summed_weights)[0]():
            pass
