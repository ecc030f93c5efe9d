"""Each case comes to what is expected of it, and no row is without one."""

import pytest

from .case import LAST_ROW, Case
from .rows import CASES
from .world import Certificate, certificate_for, folder, world


@pytest.fixture(scope="session")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return certificate_for(tmp_path_factory.mktemp("faults"))


def parameters() -> list[object]:
    return [
        pytest.param(
            one,
            id=one.name,
            marks=[pytest.mark.xfail(strict=True, reason=one.wrong_today)]
            if one.wrong_today
            else [],
        )
        for one in CASES
    ]


@pytest.mark.parametrize("case", parameters())
async def test_case(case: Case, shown: Certificate) -> None:
    """`case` has the words."""
    with folder() as place:
        async with world(place, shown, case.wire) as this:
            seen = await case.act(this)
    assert seen.against(case.expected) == [], f"expected {case.expected}; seen {seen}"


def test_every_row_has_a_case() -> None:
    assert sorted({case.row for case in CASES}) == list(range(1, LAST_ROW + 1))


def test_no_two_cases_have_one_name() -> None:
    names = [case.name for case in CASES]
    assert len(names) == len(set(names))
