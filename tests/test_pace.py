"""Rates: no window holds more than allowed, and what is allowed is used."""

import heapq
import random
from collections import deque
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulkmail.model import Rate
from bulkmail.pace import DomainPaces, Pace

ROUNDING = 1e-6


def grants(rates: list[Rate], asked: list[float]) -> list[float]:
    """The times granted to messages that are asked for at these times, one after another."""
    pace, times = Pace(rates), []
    for now in asked:
        at = pace.earliest(now)
        pace.grant(at)
        times.append(at)
    return times


def most_in_a_window(times: list[float], seconds: float) -> int:
    """The largest number of grants in any half-open window of that length."""
    most = start = 0
    for index, time in enumerate(times):
        while times[start] <= time - seconds + ROUNDING:
            start += 1
        most = max(most, index - start + 1)
    return most


RATES = st.lists(
    st.builds(Rate, st.integers(1, 60), st.sampled_from([1, 60, 3600])), min_size=1, max_size=3
)
GAPS = st.lists(st.floats(0, 100) | st.floats(0, 0.1), max_size=120)


@settings(max_examples=500)
@given(RATES, GAPS)
def test_no_window_holds_more_than_allowed(rates: list[Rate], gaps: list[float]) -> None:
    now, asked = 0.0, []
    for gap in gaps:
        now += gap
        asked.append(now)
    times = grants(rates, asked)
    assert all(at >= now for at, now in zip(times, asked, strict=True))
    for rate in rates:
        assert most_in_a_window(sorted(times), rate.period_seconds) <= rate.limit


@pytest.mark.parametrize("limit", [1, 3, 14, 200, 10_000])
def test_a_limit_below_capacity_is_reached(limit: int) -> None:
    """Within 5 %, whenever somebody always asks."""
    number = limit * 5
    times = grants([Rate(limit, 1)], [0.0] * (number + 1))
    assert times[-1] == pytest.approx(number / limit, rel=0.05)


def test_late_timers_do_not_cost_throughput() -> None:
    """Each grant is asked for 2 ms late, as timers wake; the rate is still reached within 5 %."""
    pace, at = Pace([Rate(100, 1)]), 0.0
    for _ in range(1000):
        at = pace.earliest(at + 0.002)
        pace.grant(at)
    assert at == pytest.approx(10, rel=0.05)


def test_seconds_and_minutes_are_spaced_but_quotas_are_not() -> None:
    assert grants([Rate(20, 60)], [0.0] * 3)[1:] == pytest.approx([3, 6], abs=2)
    assert grants([Rate(450, 86400)], [0.0] * 450) == [0.0] * 450


def test_a_grant_in_the_future_does_not_forget_the_present() -> None:
    """Two messages wait for the next hour; a third that asks now does not go before them."""
    assert grants([Rate(2, 3600)], [0.0] * 5) == [0.0, 0.0, 3600.0, 3600.0, 7200.0]


def test_grants_of_an_earlier_run_count() -> None:
    pace = Pace([Rate(450, 86400)])
    pace.recall([(-3600.0, 400), (-60.0, 50)])
    assert pace.earliest(0.0) == 86400 - 3600


def test_asking_changes_nothing() -> None:
    """`earliest` may be asked without taking the grant."""
    pace = Pace([Rate(2, 3600)])
    pace.grant(0.0)
    pace.grant(0.0)
    assert [pace.earliest(now) for now in (1.0, 5000.0, 1.0)] == [3600.0, 5000.0, 3600.0]


def test_without_rates_nothing_waits() -> None:
    assert Pace([]).earliest(7.0) == 7.0


def test_memory_is_bounded_for_any_limit() -> None:
    """A million a day is remembered in about a thousand portions."""
    pace = Pace([Rate(1_000_000, 86400)])
    for index in range(200_000):
        pace.grant(index * 0.4)
    [window] = pace._windows
    assert len(window._grants) <= 1002


# -- domains -------------------------------------------------------------------------------------


def test_each_domain_has_its_own_pace() -> None:
    paces = DomainPaces({"a.example": [Rate(1, 10)], "*": [Rate(1, 3600)], "b.example": []})
    for domain in ("a.example", "b.example", "c.example"):
        assert paces.earliest(domain, 5.0) == 5.0
        paces.grant(domain, 5.0)
    assert [paces.earliest(d, 6.0) for d in ("a.example", "b.example", "c.example", "d.example")] == [
        15.0, 6.0, 3605.0, 6.0]  # fmt: skip
    assert [paces.has_rates(d) for d in ("a.example", "b.example", "c.example")] == [
        True, False, True]  # fmt: skip


def test_a_domain_remembers_what_was_granted_before() -> None:
    paces = DomainPaces({"a.example": [Rate(2, 3600)]})
    paces.recall("a.example", [(-100.0, 2)])
    paces.recall("b.example", [(-100.0, 2)])
    assert paces.earliest("a.example", 0.0) == 3500.0
    assert paces.earliest("b.example", 0.0) == 0.0


def test_domains_that_wait_for_nothing_are_forgotten() -> None:
    """A hundred thousand domains with one message each take the memory of some thousand."""
    paces = DomainPaces({"*": [Rate(60, 60)]})
    for number in range(100_000):
        paces.grant(f"d{number}.example", number / 20)
    assert len(paces._paces) <= 2 * (1000 + 63 * 20)
    paces.grant("d99999.example", 5000.0)
    assert paces.earliest("d99999.example", 5000.0) > 5000.0


@given(RATES, GAPS)
def test_a_spent_pace_is_as_good_as_a_new_one(rates: list[Rate], gaps: list[float]) -> None:
    pace, at = Pace(rates), 0.0
    for gap in gaps:
        at = pace.earliest(at + gap)
        pace.grant(at)
    while not pace.is_spent(at):
        at += 7.0
    new = Pace(rates)
    for _ in range(5):
        assert pace.earliest(at) == new.earliest(at)
        at = pace.earliest(at)
        pace.grant(at)
        new.grant(at)


# -- what the server can bear --------------------------------------------------------------------


def test_after_a_complaint_nothing_goes_for_a_moment_then_as_fast_as_was_taken() -> None:
    """Holds count: 20 messages in 0.4 seconds, of which some were a hold, are 50 a second."""
    pace = Pace([])
    for number in range(21):
        pace.grant(number / 50)
        pace.accepted(number / 50)
    assert not pace.is_held(0.42) and pace.earliest(0.42) == 0.42
    assert pace.complained(0.42) == (1, 0.0)
    assert pace.complained(0.5) == (1, pytest.approx(0.08)), "it is about what left before"
    assert pace.is_held(0.66) and not pace.is_held(0.68)
    assert pace.earliest(0.5) == pytest.approx(0.67)
    pace.grant(0.67)
    assert pace.earliest(0.67) == pytest.approx(0.69, abs=0.001)


def test_complaints_in_a_row_hold_for_longer_and_longer_and_an_acceptance_ends_the_row() -> None:
    pace, now, holds = Pace([]), 0.0, []
    for number in range(14):
        assert pace.complained(now) == (number + 1, now)
        at = pace.earliest(now)
        holds.append(at - now)
        now = at
    assert holds[:4] == [0.25, 0.5, 1, 2] and holds[-3:] == [512, 600, 600]
    pace.accepted(now - 1)
    assert pace.complained(now) == (1, 0.0), "also one that was on its way before: it takes some"


def simulated(server: Callable[[float], bool], number: int) -> tuple[float, int]:
    """Seconds until a server, asked one by one, has taken so many; and its complaints."""
    pace, now, taken, complaints = Pace([]), 0.0, 0, 0
    while taken < number:
        now = max(now + 0.001, pace.earliest(now))
        pace.grant(now)
        if server(now):
            taken += 1
            pace.accepted(now)
        else:
            complaints += 1
            pace.complained(now)
    return now, complaints


@pytest.mark.parametrize("limit", [1, 14, 50, 200])
def test_a_server_with_a_limit_is_used_and_not_pestered(limit: int) -> None:
    """More than half of what it takes in a second, with some complaints to find that out."""
    recent: deque[float] = deque(maxlen=limit)

    def takes(now: float) -> bool:
        if len(recent) == limit and recent[0] > now - 1:
            return False
        recent.append(now)
        return True

    seconds, complaints = simulated(takes, 1000)
    assert limit / 2 < 1000 / seconds <= limit * 1.2
    assert complaints < 250


@pytest.mark.parametrize(("part", "seconds"), [(0.01, 20), (0.02, 40), (0.05, 150), (0.1, 600)])
def test_complaints_at_random_do_not_bring_a_run_to_a_halt(part: float, seconds: float) -> None:
    """A thousand messages take seconds or minutes, not hours."""
    dice = random.Random(1)
    took, _ = simulated(lambda now: dice.random() >= part, 1000)
    assert took < seconds


def test_acceptances_bring_the_speed_back() -> None:
    pace, now = Pace([Rate(100, 1)]), 0.0
    for number in range(5):
        pace.accepted(float(number))
    pace.complained(5.0)
    now, times = 5.0, []
    for _ in range(1000):
        now = pace.earliest(now)
        pace.grant(now)
        pace.accepted(now)
        times.append(now)
    assert times[0] == 5.25 and times[1] - times[0] > 0.9
    assert times[-1] - times[-101] == pytest.approx(1.0, abs=0.05), "the rate is what is left"


def test_a_domain_is_held_by_itself() -> None:
    paces = DomainPaces({})
    assert paces.complained("a.example", 5.0) == 1
    assert paces.is_held("a.example", 5.2) and not paces.is_held("b.example", 5.2)
    assert (paces.earliest("a.example", 5.0), paces.earliest("b.example", 5.0)) == (5.25, 5.0)
    assert paces.complained("a.example", 6.0) == 2
    assert paces.earliest("a.example", 6.0) == 6.5
    paces.accepted("a.example", 8.0)
    assert paces.complained("a.example", 8.0) == 1


@pytest.mark.parametrize("askers", [2, 4, 20])
@pytest.mark.parametrize("latency", [0.0, 0.1, 0.3])
@pytest.mark.parametrize("limit", [1, 5, 50])
def test_a_server_that_answers_late_and_several_at_once(
    askers: int, latency: float, limit: int
) -> None:
    """It complains at once and accepts later, within the hold: it is still used, at half its limit
    or more, and the holds do not grow without end.
    """
    pace, recent = Pace([]), deque[float](maxlen=limit)
    heap: list[tuple[float, int, bool]] = [(0.0, number, False) for number in range(askers)]
    taken, now = 0, 0.0
    while taken < 300:
        now, number, accepted = heapq.heappop(heap)
        if accepted:
            taken += 1
            pace.accepted(now)
        if (at := pace.earliest(now)) > now:
            heapq.heappush(heap, (at, number, False))
            continue
        pace.grant(now)
        if len(recent) == limit and recent[0] > now - 1:
            pace.complained(now)
            heapq.heappush(heap, (now + 0.001, number, False))
        else:
            recent.append(now)
            heapq.heappush(heap, (now + latency + 0.001, number, True))
    assert 300 / now > limit * 0.4 or 300 / now > askers / (latency + 0.1) * 0.5
