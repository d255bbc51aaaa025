"""Trainers that are really killed, and started again until they are done. `make chaos` does a hundred of these."""

import itertools
import signal
from contextlib import closing

import pytest

from chaos.kills import Aim, plan_kills
from chaos.story import Disturbed, KillList, run_disturbed, run_plain, run_undisturbed
from chaos.trainers import ForkServer
from chaos.world import VARIANTS, make_world

KILLS, SEED, STEPS = 8, 4, 60
VARIANT = next(iter(VARIANTS))


@pytest.fixture
def world(s3_server, tmp_path):
    return make_world(s3_server, tmp_path, STEPS)


def test_a_killed_run_ends_with_the_adapter_of_an_undisturbed_one_and_nothing_half_is_ever_believed(world):
    plan = plan_kills(SEED, KILLS)
    kills, runs = KillList(plan), []
    with closing(ForkServer(world.environment)) as server:
        usual = run_undisturbed(server, world, "usual", VARIANT)
        for number in itertools.count():
            if not len(kills):
                break
            run = Disturbed(f"run-{number}", VARIANT)
            runs.append(run_disturbed(server, world, run, usual, kills, print))
            assert run.faults == []
    assert run_plain(world, "plain", VARIANT) == usual.digest, "the fork server makes no difference"
    endings = [ending for run in runs for ending in run.endings]
    landed = [ending.kill for ending in endings if ending.kill]
    assert sorted((kill.signal, kill.aim) for kill in landed) == sorted((kill.signal, kill.aim) for kill in plan)
    assert any(ending.resumed_from for ending in endings)


def test_a_plan_has_both_signals_and_every_aim_and_repeats_itself():
    plan = plan_kills(SEED, KILLS)
    assert [kill.signal for kill in plan].count(signal.SIGTERM) == KILLS / 2
    assert {kill.aim for kill in plan} == set(Aim)
    assert plan == plan_kills(SEED, KILLS)
    assert plan != plan_kills(SEED + 1, KILLS)
