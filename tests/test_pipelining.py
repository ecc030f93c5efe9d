"""Whether a server that announces PIPELINING, or CHUNKING too, is believed again, by session."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from bulkmail.smtp.announced import Announced
from bulkmail.smtp.conversation import WINDOW, Conversation
from bulkmail.transport.pipelining import Pipelining


@dataclass
class Run:
    """Sessions of a run, one after another or at once."""

    announced: Announced = field(default_factory=lambda: Announced(pipelining=True))
    given_up: int = 0

    def __post_init__(self) -> None:
        self.pipelining = Pipelining(self._give_up)

    def _give_up(self) -> None:
        self.given_up += 1

    def begin(self) -> tuple[Conversation, Callable[[], None]]:
        return self.pipelining.conversation(self.announced)

    def session(self, how: str) -> str:
        """One that ends so; its wire mode."""
        return self.end(self.begin(), how)

    def end(self, begun: tuple[Conversation, Callable[[], None]], how: str) -> str:
        """That of CHUNKING is called `pipelined`, too: the rules are the same."""
        conversation, ended = begun
        pipelined = conversation._announced.pipelining
        assert conversation._in_chunks is (pipelined and self.announced.chunking)
        assert conversation._window == (
            WINDOW if conversation._in_chunks else 3 if pipelined else 1
        )
        conversation.broke_pipeline = pipelined and how == "breaks"
        conversation.joined = pipelined and how == "joins"
        ended()
        return "pipelined" if pipelined else "plain"


PIPELINING = Announced(pipelining=True)
CHUNKING = Announced(pipelining=True, chunking=True)
BOTH = pytest.mark.parametrize("announced", [PIPELINING, CHUNKING], ids=["pipelining", "chunking"])


@BOTH
@pytest.mark.parametrize(
    ("ends", "wires", "given_up"),
    [
        (["joins", "joins"], ["pipelined"] * 2, 0),
        (["breaks", "ends", "ends"], ["pipelined", "plain", "pipelined"], 0),
        (["breaks", "breaks", "breaks", "ends"], ["pipelined", "plain", "pipelined", "plain"], 1),
        (["breaks", "ends", "breaks", "ends", "ends"], ["pipelined", "plain", "pipelined", "plain", "plain"], 1),
        (["breaks", "ends", "ends", "breaks", "ends"], ["pipelined", "plain", "pipelined", "pipelined", "plain"], 1),
        (["breaks", "ends", "joins", "breaks", "ends", "ends"], ["pipelined", "plain", "pipelined", "pipelined", "plain", "pipelined"], 0),
    ],
)  # fmt: skip
def test_one_broken_pipeline_costs_a_plain_session_and_two_the_run(
    announced: Announced, ends: list[str], wires: list[str], given_up: int
) -> None:
    """A session that joins messages and ends well takes the suspicion back; a short one does not."""
    run = Run(announced)
    assert [run.session(how) for how in ends] == wires
    assert run.given_up == given_up


@BOTH
def test_a_network_that_fails_all_at_once_is_one_failure(announced: Announced) -> None:
    run = Run(announced)
    begun = [run.begin() for _ in range(4)]
    assert [run.end(one, "breaks") for one in begun] == ["pipelined"] * 4
    assert [run.session("ends") for _ in range(5)] == ["plain"] * 4 + ["pipelined"]
    assert run.given_up == 0


@BOTH
def test_it_is_told_once(announced: Announced) -> None:
    run = Run(announced)
    run.session("breaks")
    run.session("ends")
    begun = [run.begin() for _ in range(4)]
    for one in begun:
        run.end(one, "breaks")
    assert run.given_up == 1
    assert [run.session("ends") for _ in range(8)] == ["plain"] * 8


def test_a_server_that_announces_nothing_is_never_suspected() -> None:
    run = Run(Announced())
    assert [run.session("breaks") for _ in range(3)] == ["plain"] * 3
    assert run.given_up == 0


@pytest.mark.parametrize("announced", [PIPELINING, CHUNKING, Announced(chunking=True), Announced()])
def test_where_it_is_not_wanted_all_are_plain_and_nothing_is_told(announced: Announced) -> None:
    told: list[None] = []
    pipelining = Pipelining(lambda: told.append(None), wanted=False)
    for _ in range(3):
        conversation, ended = pipelining.conversation(announced)
        assert conversation._window == 1 and not conversation._in_chunks
        conversation.broke_pipeline = True
        ended()
    assert told == []


def test_the_window_is_that_of_the_campaign() -> None:
    pipelining = Pipelining(lambda: None, window=5)
    assert [
        pipelining.conversation(announced)[0]._window
        for announced in (Announced(), Announced(chunking=True), PIPELINING, CHUNKING)
    ] == [1, 1, 3, 5]
