"""Whatever bytes and descriptors come over the session socket: an answer, a fault or a hang-up, and nothing else."""

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from rmapi.v1 import resource_manager_pb2 as rm_pb
from rmapi.v1 import session_pb2 as pb
from support.fed import OPENING, answers_to
from support.served import LENGTH, framed
from support.strategies import SAME_EVERY_RUN

texts = st.text(max_size=8)
answered = st.one_of(
    st.builds(lambda version, command: framed(open_session=pb.OpenSession(protocol_version=version, command=command)),
              st.integers(-1, 2), texts),
    st.builds(lambda session, secret: framed(
        attach_session=pb.AttachSession(protocol_version=1, session_id=session, session_secret=secret)), texts, texts),
    st.builds(lambda ids: framed(correlation_id=2, keep_alive=rm_pb.KeepAliveRequest(lease_ids=ids)), st.lists(texts)),
    st.builds(lambda lease: framed(correlation_id=3, fetch_windows=pb.FetchWindows(lease_id=lease)), texts),
    st.builds(lambda lease: framed(correlation_id=4, release=rm_pb.ReleaseRequest(lease_id=lease)), texts),
    st.builds(lambda request: framed(release=rm_pb.ReleaseRequest(request_id=request)), st.integers(-1, 3)),
    st.just(framed(release=rm_pb.ReleaseRequest())),
    st.just(framed(correlation_id=5)),
)  # fmt: skip
closing = st.builds(
    lambda lease, indexes: framed(return_windows=pb.ReturnWindows(lease_id=lease, allotment_indexes=indexes)),
    texts,
    st.lists(st.integers(-2, 70), max_size=3),
)  # without their descriptors
frames = answered | closing
garbage = st.one_of(
    st.binary(max_size=40),
    st.builds(lambda body: LENGTH.pack(len(body)) + body, st.binary(min_size=1, max_size=40)),
    st.builds(LENGTH.pack, st.integers(0, 2**32 - 1)),
)


@given(st.booleans(), st.lists(frames | garbage, max_size=5), st.integers(0, 3))
@settings(SAME_EVERY_RUN, max_examples=150)
def test_any_bytes_get_an_answer_or_a_fault_and_harm_nobody(is_greeted, chunks, descriptor_count) -> None:
    told = asyncio.run(answers_to([OPENING, *chunks] if is_greeted else chunks, descriptor_count))
    assert all(frame.WhichOneof("body") for frame in told)


@given(st.lists(answered, min_size=1, max_size=4), st.data())
@settings(SAME_EVERY_RUN, max_examples=100)
def test_how_bytes_are_cut_into_pieces_changes_no_answer(sent, data) -> None:
    whole = OPENING + b"".join(sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=4)))
    pieces = [whole[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert _kinds(asyncio.run(answers_to(pieces))) == _kinds(asyncio.run(answers_to([whole])))


def _kinds(told: list[pb.ServerFrame]) -> list[tuple[str | None, str]]:
    return sorted((frame.WhichOneof("body"), frame.fault.detail.reason) for frame in told)


def test_the_feeding_is_heard() -> None:
    assert _kinds(asyncio.run(answers_to([OPENING, framed(keep_alive=rm_pb.KeepAliveRequest())]))) == [
        ("keep_alive", ""),
        ("session_opened", ""),
    ]
