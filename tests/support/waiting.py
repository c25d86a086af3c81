"""Waiting for what another process or thread is about to do, never longer than a test may take."""

import threading
import time

DEADLINE_S = 60


def until(condition):
    """Waits for what another process or thread is about to do."""
    give_up_at = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < give_up_at, "it did not happen"
        time.sleep(0.002)


def in_thread(work):
    """Starts ``work`` in a thread; answers a function that waits for what it returned or raised."""
    results = []

    def run():
        try:
            results.append((work(), None))
        except BaseException as fault:
            results.append((None, fault))

    thread = threading.Thread(target=run)
    thread.start()

    def result():
        thread.join(DEADLINE_S)
        assert not thread.is_alive(), "it did not end"
        value, fault = results[0]
        if fault is not None:
            raise fault
        return value

    return result
