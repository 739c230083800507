"""Staleness, plan and session, with procedures that only count."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from labctl_calibration.planning import Bench, Wish, in_order
from labctl_calibration.procedure import Devices, Measured, Procedure, Quantity
from labctl_calibration.session import calibrate
from labctl_calibration.store import DriftEvent, RecordStore
from labctl_calibration.taking import Circumstances

from labctl.devices import ConfigError, DataError, Device, DeviceFault, Identity


class Box(Device):
    """`firmware` can change between two openings."""

    def __init__(self, serial="B1", firmware="1.0", model="box"):
        super().__init__("box")
        self.serial, self.firmware, self.model = serial, firmware, model

    def _do_open(self):
        return Identity("maker", self.model, self.serial, self.firmware, True)

    def _do_close(self):
        pass

    def _do_snapshot(self):
        return {}


class Lab:
    """Procedures by name with what they need: value and sd of what they measure can be set by name."""

    def __init__(self, needs: dict[str, tuple[str, ...]], **more):
        self.ran = []
        self.value = dict.fromkeys(needs, 1.0)
        self.high = dict.fromkeys(needs, 1000000000.0)
        self.fault = {}
        self.counts = Counter()
        self.box = Box()
        self.box.open()
        self.procedures = tuple(self._procedure(name, needs[name], **more) for name in needs)

    @property
    def devices(self):
        return Devices({Box: self.box})

    def _procedure(self, name, needs, validity_s=3600.0, essential=True):
        def measure(devices, upstream, tell):
            assert set(upstream) == set(needs)
            self.ran.append(name)
            if name in self.fault:
                raise self.fault[name]
            return Measured(
                kind=name,
                arrays={"x": np.full(3, self.value[name]), "x_sd": np.full(3, 0.01)},
                quantities=(Quantity("q", self.value[name], 0.01, "V", high=self.high[name]),),
                raw={"frames": np.arange(5) + self.counts[name]},
            )

        return Procedure(
            name=name, kind=name, title=name, needs=tuple(needs), device=Box, roles=(Box,),
            validity_s=validity_s, notices=(), duration_s=lambda devices: 1.0, measure=measure,
            essential=essential,
        )  # fmt: skip


CHAIN = {"a": (), "b": ("a",), "c": ("b",), "d": ("a",)}


def now():
    return datetime.now(UTC)


def bench(lab, folder, **more):
    return Bench(lab.procedures, lab.devices, RecordStore(folder), Circumstances("rig", **more))


def done(lab, folder, wish=None, **more):
    lab.ran.clear()
    outcomes = list(calibrate(bench(lab, folder, **more), wish))
    return [*lab.ran], {one.procedure.name: one for one in outcomes}


@st.composite
def graphs(draw):
    names = [f"p{k}" for k in range(draw(st.integers(2, 5)))]
    needs = {
        n: tuple(sorted(draw(st.sets(st.sampled_from(names[:k]))) if k else ())) for k, n in enumerate(names)
    }
    return {name: needs[name] for name in draw(st.permutations(names))}


@settings(max_examples=6)
@given(graphs())
def test_everything_comes_after_what_it_needs(tmp_path_factory, needs):
    lab = Lab(needs)
    order = [one.name for one in in_order(lab.procedures)]
    assert sorted(order) == sorted(needs)
    assert all(order.index(below) < order.index(name) for name in needs for below in needs[name])
    folder = tmp_path_factory.mktemp("records")
    assert done(lab, folder)[0] == order
    assert done(lab, folder)[0] == []


@settings(max_examples=6)
@given(graphs(), st.data())
def test_measuring_one_thing_again_reaches_what_rests_on_it_and_no_more(tmp_path_factory, needs, data):
    """And that only where it changed."""
    lab, folder = Lab(needs), tmp_path_factory.mktemp("records")
    done(lab, folder)
    name = data.draw(st.sampled_from(sorted(needs)))
    ran, outcomes = done(lab, folder, Wish(again=name))
    assert ran == [name]
    resting = [other for other in needs if name in needs[other]]
    for other in resting:
        assert "agree within their uncertainty" in outcomes[other].before.words
    lab.value[name] = 2.0
    assert set(done(lab, folder, Wish(again=name))[0]) == {name, *resting}
    assert done(lab, folder)[0] == []


def test_procedures_that_cannot_be_ordered_are_refused():
    for needs, words in (
        ({"a": ("b",), "b": ("a",)}, "need each other"),
        ({"a": ("z",)}, "needs 'z'; allowed: a"),
    ):
        with pytest.raises(ConfigError, match=words):
            in_order(Lab(needs).procedures)
    twice = Lab({"a": ()}).procedures
    with pytest.raises(ConfigError, match="two procedures have the name 'a'"):
        in_order((*twice, *twice))


def test_each_reason_is_told(tmp_path):
    lab = Lab(CHAIN)
    done(lab, tmp_path, settings={"Box": {"range": 1}})
    by = bench(lab, tmp_path, settings={"Box": {"range": 1}})
    a, b = by.procedures[:2]
    assert by.standing(a, now()).in_order

    def why(other, procedure=a, at=None):
        return [reason.why for reason in other.standing(procedure, at or now()).reasons]

    assert why(by, at=now() + timedelta(hours=2)) == ["age"]
    assert why(by, at=now() - timedelta(hours=2)) == ["clock"]
    assert why(bench(lab, tmp_path, settings={"Box": {"range": 2}})) == ["settings"]
    for change, expected in (
        ({"firmware": "2.0"}, ["firmware"]),
        ({"model": "crate"}, ["identity"]),
        ({"serial": "B2"}, ["identity"]),
        ({"serial": "B2", "model": "crate"}, ["missing"]),
    ):
        box = Box(**change)
        box.open()
        assert why(Bench(lab.procedures, Devices({Box: box}), by.store)) == expected
    by.store.note_drift(DriftEvent("b", "B1", (now() + timedelta(seconds=1)).isoformat(), "1% off"))
    assert why(by, b) == ["drift"]
    by.store.head_path(by.standing(a, now()).stored.id).unlink()
    assert "upstream" in why(by, b)


def test_a_clock_that_was_set_back_is_one_error(tmp_path):
    lab = Lab(CHAIN)
    done(lab, tmp_path)
    with pytest.raises(DataError, match="was the clock set back"):
        list(calibrate(bench(lab, tmp_path), clock=lambda: now() - timedelta(days=1)))


def test_stopping_keeps_what_was_measured(tmp_path):
    lab = Lab(CHAIN)
    lab.fault["c"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        done(lab, tmp_path)
    assert lab.ran == ["a", "b", "c"]
    lab.fault.clear()
    assert done(lab, tmp_path)[0] == ["c", "d"]


def test_what_is_out_of_range_is_kept_and_not_built_upon(tmp_path):
    lab = Lab(CHAIN)
    lab.high["b"] = 0.5
    ran, outcomes = done(lab, tmp_path)
    assert ran == ["a", "b", "d"]
    assert not outcomes["b"].accepted
    assert "rests on b, which cannot be used" in outcomes["c"].failed
    assert outcomes["b"].stored is not None
    ran, outcomes = done(lab, tmp_path, Wish(overrides={"b": "known"}))
    assert ran == ["c"]
    assert outcomes["c"].stored.about.overrides == {"b": "known"}
    assert done(lab, tmp_path)[0] == ["b"]


def test_a_reason_passes_what_is_out_of_range_as_it_is_measured(tmp_path):
    lab = Lab(CHAIN)
    lab.high["b"] = 0.5
    ran, outcomes = done(lab, tmp_path, Wish(overrides={"b": "known"}))
    assert ran == ["a", "b", "c", "d"]
    assert outcomes["c"].stored.about.overrides == {"b": "known"}


def test_an_inessential_fault_leaves_the_rest(tmp_path):
    lab = Lab(CHAIN, essential=False)
    lab.fault["b"] = DeviceFault("lens cap", device="box", operation="b")
    ran, outcomes = done(lab, tmp_path)
    assert ran == ["a", "b", "d"]
    assert "lens cap" in outcomes["b"].failed
    essential = Lab(CHAIN)
    essential.fault = lab.fault
    with pytest.raises(DeviceFault, match="lens cap"):
        done(essential, tmp_path / "other")


def test_one_alone(tmp_path):
    lab = Lab(CHAIN)
    with pytest.raises(ConfigError, match="b rests on a, which is not in order: never measured; allowed"):
        done(lab, tmp_path, Wish(only="b"))
    done(lab, tmp_path)
    lab.value["a"] = 3.0
    done(lab, tmp_path, Wish(only="a", again="a"))
    assert lab.ran == ["a"]
    ran, outcomes = done(lab, tmp_path, Wish(only="b"))
    assert ran == ["b"]
    assert outcomes["b"].change.changes[0].sigmas == 0
    with pytest.raises(ConfigError, match=r"--again is 'z'.*allowed: a, b, c, d"):
        done(lab, tmp_path, Wish(again="z"))
    with pytest.raises(ConfigError, match="allowed: the same"):
        done(lab, tmp_path, Wish(only="a", again="b"))


def test_the_plan_says_what_may_follow(tmp_path):
    lab = Lab(CHAIN)
    done(lab, tmp_path)
    plan = bench(lab, tmp_path).plan(now(), Wish(again="b"))
    assert [step.procedure.name for step in plan.due] == ["b"]
    assert [step.procedure.name for step in plan.perhaps] == ["c"]
    assert {step.procedure.name for step in plan.in_use} == {"a", "d"}
    assert plan.duration_s == 1.0


def test_two_calibrations_at_once_are_refused(tmp_path):
    lab = Lab(CHAIN)
    first = calibrate(bench(lab, tmp_path))
    next(first)
    with pytest.raises(DataError, match="in use by process"):
        next(calibrate(bench(lab, tmp_path)))
    first.close()
    done(lab, tmp_path)
