"""Pools: the environments of one version of a function, one for each invocation that runs at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable

from local.environments import Environment, Outcome
from local.runtime_api import Invocation


class Pool:
    """The environments of one version of a function: one for each invocation that runs at a time."""

    def __init__(self, make: Callable[[], Environment]) -> None:
        """Begin with no environment; make makes one."""
        self.make = make
        self.lock = threading.Lock()
        self.everyone: list[Environment] = []
        self.idle: list[Environment] = []
        self.retired = False

    def invoke(self, make: Callable[[int], Invocation]) -> Outcome:
        """Serve an invocation with an environment that is idle, or with a new one."""
        environment = self.take()
        broken = True
        try:
            outcome = environment.invoke(make)
            broken = False
            return outcome
        finally:
            self.give_back(environment, broken=broken)

    def take(self) -> Environment:
        """Return an environment that nobody uses."""
        while True:
            with self.lock:
                environment = self.idle.pop() if self.idle else None
            if environment is None:
                environment = self.make()
                with self.lock:
                    self.everyone.append(environment)
            if not environment.sandbox.gone:
                return environment
            self.give_back(environment, broken=True)

    def give_back(self, environment: Environment, *, broken: bool) -> None:
        """Keep an environment for the next invocation, unless its time is over."""
        with self.lock:
            keep = not (self.retired or broken)
            if keep:
                self.idle.append(environment)
            else:
                self.everyone.remove(environment)
        if not keep:
            environment.close()

    def retire(self) -> None:
        """End the idle environments now, and each other one after its invocation."""
        with self.lock:
            self.retired = True
            idle, self.idle = self.idle, []
            for environment in idle:
                self.everyone.remove(environment)
        for environment in idle:
            environment.close()

    def close(self) -> None:
        """End all environments, also those that are busy."""
        self.retire()
        with self.lock:
            busy = list(self.everyone)
        for environment in busy:
            environment.sandbox.abandon()
