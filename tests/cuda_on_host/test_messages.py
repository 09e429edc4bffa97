"""The emulator orders what releases and acquires order, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from .module import LaunchError

FILE = Path(__file__).parent / "messages.cu"
MESSAGES = ("message", "message_of_a_warp", "message_passed_on", "message_and_count")
RESIDENT = (1, 2, 3)


def launch(module, name, *, blocks=None, **options):
    x, y, state = np.zeros(64, np.float32), np.zeros(64, np.float32), np.zeros(8, np.uint32)
    blocks = blocks or (3 if name == "message_passed_on" else 2)
    module[name](blocks, 64, [x, y, state], uninitialised=[0], **options)
    return x, y, state


@pytest.mark.parametrize("resident", RESIDENT)
@pytest.mark.parametrize("name", MESSAGES)
def test_messages_arrive(compiled, schedule, checked, name, resident):
    module = compiled(FILE, checked=checked)
    x, y, _ = launch(module, name, schedule=schedule, resident=resident)
    length = 32 if name == "message_of_a_warp" else 64
    factor = 2 if name in MESSAGES[:2] else 1
    np.testing.assert_array_equal(y[:length], factor * x[:length][::-1])
    assert x[length - 1] > 0


def changed(name, pattern, replacement):
    """An edit of one kernel of the file."""

    def edit(text):
        start = text.index(f"void {name}(")
        found = re.search(r"\n}\n", text[start:])
        end = start + found.end()
        return text[:start] + re.sub(pattern, replacement, text[start:end]) + text[end:]

    return edit


RELAXED = {
    "no release": (r"store_release\((.*), 1\)", r"atomicExch(\1, 1u)"),
    "plain release": (r"store_release\((.*), 1\)", r"*(\1) = 1"),
    "no acquire": (r"await\((.*)\);", r"while (atomicAdd(\1, 0u) == 0) __nanosleep(20);"),
    "plain acquire": (
        r"await\((.*)\);",
        r"while (*const_cast<volatile unsigned*>(\1) == 0) __nanosleep(20);",
    ),
    "no barrier": (r"__sync\w+\(\);", ";"),
}


@pytest.mark.parametrize("how", RELAXED)
@pytest.mark.parametrize("name", MESSAGES)
def test_less_is_a_race(broken, schedule, name, how):
    edit = changed(name, *RELAXED[how])
    with pytest.raises(LaunchError, match=r"race|nobody wrote"):
        launch(broken(FILE, edit), name, schedule=schedule, resident=3)


def test_a_message_ends_with_a_plain_write(broken, schedule):
    edit = changed("message_and_count", r"atomicAdd\(state \+ 1, 1u\)", "state[1] = 2")
    with pytest.raises(LaunchError, match="race"):
        launch(broken(FILE, edit), "message_and_count", schedule=schedule, resident=2)


def test_what_comes_after_the_release(emulated, schedule):
    with pytest.raises(LaunchError, match=r"race|nobody wrote"):
        launch(emulated(FILE, checked=True), "written_too_late", schedule=schedule, resident=2)


@pytest.mark.parametrize("resident", [2, 3])
def test_blocks_take_turns(emulated, resident):
    """Some seed lets the second block wait: it looks for the flag more often than it has to."""
    module, looks = emulated(FILE, checked=True), set()
    for seed in range(1, 9):
        launch(module, "message", schedule=seed, resident=resident)
        looks.add(module.counts.accesses)
    assert len(looks) > 1


def test_deadlock(emulated, checked):
    """Blocks that begin in another order than they wait for are told, unless all are there."""
    module, name = emulated(FILE, checked=checked), "waits_for_the_block_before"
    for resident in (1, 2, 3):
        *_, state = launch(module, name, blocks=3, resident=resident)
        assert state.tolist() == [0, 1, 1, 1, 0, 0, 0, 0]
    for resident in (1, 2):
        with pytest.raises(LaunchError, match="deadlock: block 2 thread 0 waits in a loop; 63 of"):
            launch(module, name, blocks=3, schedule="reverse", resident=resident)
    *_, state = launch(module, name, blocks=3, schedule="reverse", resident=3)
    assert state.tolist() == [0, 1, 1, 1, 0, 0, 0, 0]
