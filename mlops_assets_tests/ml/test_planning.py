from datetime import date

from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_assets.ml.planning import (
    ATTEMPTS,
    ATTEMPTS_IN_OUTAGES,
    DECISION,
    LABELLING,
    LABELS,
    MAX_PARTITIONS,
    MONITORING,
    PERFORMANCE,
    TRAINING,
    VALIDATION,
    Memory,
    State,
    attempts,
    pause,
    plan,
    plan_labels,
)
from mlops_assets.ml.spec import Partitions
from mlops_assets.ml.windows import Windows
from mlops_assets_tests import toy

MONTHS = [f"2024-{month:02}-01" for month in range(1, 13)]
POSITION = Windows.of(Partitions(every="monthly", start=date(2024, 1, 1))).position


def spec(policy="always", **training):
    return toy.spec(".", training={"min_partitions": 3, **training}, retraining={"policy": policy})


def versions(*months, version="v1"):
    return {MONTHS[month - 1]: f"{version} of {month}" for month in months}


def ask(found, held=None, memory=None, model=None, position=POSITION, **state):
    seen = State(found=found, held=held or {}, validated=state.pop("validated", held or {}), **state)
    return plan(model or spec(), seen, memory or Memory(), position)


def spans(decided):
    return [tuple(POSITION(key) - POSITION(MONTHS[0]) + 1 for key in each.deliveries) for each in decided.requests]


def test_new_neighbours_are_asked_for_together_and_once():
    first = ask(versions(1, 2, 3))
    assert spans(first) == [(1, 2, 3)]
    assert first.requests[0].deliveries == versions(1, 2, 3)
    assert first.requests[0].reason == "new_data"
    again = ask(versions(1, 2, 3), held=versions(1, 2, 3), memory=first.memory)
    assert again.requests == ()


def test_a_gap_parts_the_requests_and_training_waits_for_all_of_them():
    first = ask(versions(1, 2, 4, 5))
    assert spans(first) == [(1, 2), (4, 5)]
    assert [request.assets for request in first.requests] == [VALIDATION, VALIDATION]
    held = versions(1, 2, 4, 5)
    then = ask(held, held, first.memory, unlearned=lambda: [*held])
    assert [request.assets for request in then.requests] == [TRAINING]
    assert then.requests[0].because == "4 validated partitions are not learned from yet, the newest 2024-05-01"
    assert ask(held, held, then.memory, unlearned=lambda: [*held]).requests == ()


def test_changed_bytes_are_a_correction_and_every_return_to_old_bytes_is_another():
    memory, keys = Memory(), []
    held = versions(1, 2, 3)
    for version in ("v2", "v1", "v2", "v1"):
        found = {**held, **versions(2, version=version)}
        decided = ask(found, held, memory)
        assert spans(decided) == [(2,)]
        assert decided.requests[0].reason == "corrected_data"
        keys.append(decided.requests[0].run_key)
        held, memory = found, decided.memory
    assert len(set(keys)) == len(keys)


def test_the_same_bytes_under_another_name_ask_for_nothing_and_the_reason_is_said():
    found = {**versions(1, 2), MONTHS[2]: "v1 of 2"}
    decided = ask(found, held=versions(1, 2), model=spec(min_partitions=9))
    assert decided.requests == ()
    assert decided.left == {MONTHS[2]: f"holds the same bytes as {MONTHS[1]}: delivered twice, counted once"}
    renamed = ask({MONTHS[2]: "v1 of 2"}, held=versions(2), model=spec(min_partitions=9))
    assert renamed.requests == ()


def test_two_deliveries_that_were_swapped_are_both_corrected():
    found = {MONTHS[0]: "v1 of 2", MONTHS[1]: "v1 of 1"}
    assert spans(ask(found, held=versions(1, 2))) == [(1, 2)]


def test_training_is_included_when_enough_partitions_will_be_validated():
    assert set(TRAINING) <= set(ask(versions(1, 2, 3)).requests[0].assets)
    assert not set(TRAINING) & set(ask(versions(1, 2)).requests[0].assets)
    assert set(TRAINING) <= set(ask(versions(1, 2, 3), held=versions(1, 2)).requests[0].assets)
    blocked = ask(versions(1, 2, 3), held=versions(1, 2), validated=versions(1))
    assert not set(TRAINING) & set(blocked.requests[0].assets)


def test_on_drift_new_data_trains_only_while_there_is_no_champion():
    model = spec(policy="on_drift")
    assert set(TRAINING) <= set(ask(versions(1, 2, 3), model=model).requests[0].assets)
    assert not set(TRAINING) & set(ask(versions(1, 2, 3), model=model, champion=True).requests[0].assets)
    held = versions(1, 2, 3)
    assert ask(held, held, model=model, champion=True, unlearned=lambda: [*held]).requests == ()


def test_drift_is_judged_only_by_a_champion_that_cannot_have_learned_from_the_partition():
    held = versions(1, 2, 3)
    assert not set(MONITORING) & set(ask(versions(1, 2, 3, 4), held).requests[0].assets)
    new = ask(versions(1, 2, 3, 4), held, champion=True)
    assert set(MONITORING) <= set(new.requests[0].assets)
    learned = ask({**held, **versions(2, version="v2")}, held, champion=True)
    assert set(MONITORING) & set(learned.requests[0].assets) == {DECISION}
    judged = ask({**held, **versions(2, version="v2")}, held, champion=True, reported={MONTHS[1]})
    assert set(MONITORING) <= set(judged.requests[0].assets)


def test_a_request_covers_a_bounded_number_of_partitions():
    found = {str(number): f"bytes {number}" for number in range(2 * MAX_PARTITIONS + 1)}
    sizes = [len(request.deliveries) for request in ask(found, position=int).requests]
    assert sizes == [MAX_PARTITIONS, MAX_PARTITIONS, 1]


def test_a_run_that_died_is_asked_for_once_more_whatever_it_had_stored_and_then_given_up():
    found = versions(1, 2, 3)
    first = ask(found)
    second = ask(found, held=versions(1), memory=first.memory, died=first.requests)
    assert spans(second) == [(1,), (2,), (3,)]
    assert {request.attempt for request in second.requests} == {2}
    assert second.requests[0].run_key != first.requests[0].run_key
    third = ask(found, held=versions(1), memory=second.memory, died=second.requests)
    assert third.requests == ()
    assert set(third.left) == set(found)
    assert ATTEMPTS == 2
    later = ask(found, held=versions(1), memory=third.memory)
    assert later.requests == ()
    corrected = ask({**found, **versions(2, version="v2")}, held=versions(1), memory=third.memory)
    assert spans(corrected) == [(2,)]
    assert corrected.requests[0].attempt == 1


def test_of_neighbours_that_a_run_died_with_only_the_one_to_blame_is_given_up():
    found = versions(1, 2, 3)
    first = ask(found)
    second = ask(found, memory=first.memory, died=first.requests)
    held = versions(1, 3)
    third = ask(found, held=held, memory=second.memory, died=second.requests[1:2])
    assert third.requests == ()
    assert third.left == {MONTHS[1]: "runs died on it 2 times; materialize it by hand or deliver it again"}
    assert third.memory.given_up.keys() == {MONTHS[1]}


def test_after_an_outage_neighbours_stay_together_and_the_reason_for_giving_up_is_said():
    found = versions(1, 2, 3)
    decided = ask(found)
    for attempt in range(2, ATTEMPTS_IN_OUTAGES + 1):
        decided = ask(found, memory=decided.memory, outages=decided.requests)
        assert spans(decided) == [(1, 2, 3)]
        assert decided.requests[0].attempt == attempt
    last = ask(found, memory=decided.memory, outages=decided.requests)
    assert last.requests == ()
    assert last.left[MONTHS[0]].startswith("a service did not answer in 4 runs; materialize it by hand")


def test_pauses_grow_and_what_dies_is_tried_less_often_than_what_an_outage_stopped():
    pauses = [pause(attempt) for attempt in range(1, ATTEMPTS_IN_OUTAGES + 1)]
    assert pauses[0] < pauses[1] < pauses[2] == pauses[3]
    assert (attempts("died"), attempts("outage")) == (ATTEMPTS, ATTEMPTS_IN_OUTAGES)


def test_training_in_an_outage_is_asked_for_as_often_as_a_delivery_and_then_waits_for_new_data():
    held = versions(1, 2, 3)
    decided = ask(held, held, unlearned=lambda: [*held])
    for _ in range(2, ATTEMPTS_IN_OUTAGES + 1):
        decided = ask(held, held, decided.memory, unlearned=lambda: [*held], outages=decided.requests)
        assert [request.assets for request in decided.requests] == [TRAINING]
    last = ask(held, held, decided.memory, unlearned=lambda: [*held], outages=decided.requests)
    assert last.requests == ()
    assert last.left["trained_model"].startswith("a service did not answer in 4 runs")


def test_what_a_person_cancelled_is_not_asked_for_again_and_is_said_until_it_is_done_by_hand_or_delivered_anew():
    found = versions(1, 2)
    first = ask(found)
    for held in ({}, versions(1)):
        second = ask(found, held=held, memory=first.memory, cancelled=first.requests)
        third = ask(found, held=held, memory=second.memory)
        for decided in (second, third):
            assert decided.requests == ()
            assert decided.left == dict.fromkeys(
                found, "its run was cancelled; materialize it by hand or deliver it again"
            )
    assert ask(found, held=found, memory=third.memory, by_hand=set(found)).left == {}
    assert spans(ask({**found, **versions(2, version="v2")}, memory=third.memory)) == [(2,)]


def test_training_that_a_person_cancelled_is_not_asked_for_again_until_there_is_more_to_learn():
    held = versions(1, 2, 3)
    first = ask(held, held, unlearned=lambda: [*held])
    second = ask(held, held, first.memory, unlearned=lambda: [*held], cancelled=first.requests)
    assert second.requests == ()
    reason = "its run was cancelled; materialize it by hand, or wait for the next delivery"
    assert ask(held, held, second.memory, unlearned=lambda: [*held]).left == {"trained_model": reason}
    assert ask(held, held, second.memory).left == {}
    more = ask({**held, **versions(4)}, held, second.memory, unlearned=lambda: [*held])
    assert set(TRAINING) <= set(more.requests[0].assets)
    assert more.left == {}


def test_training_that_died_is_asked_for_once_more_and_then_waits_for_new_data():
    held = versions(1, 2, 3)
    first = ask(held, held, unlearned=lambda: [*held])
    second = ask(held, held, first.memory, unlearned=lambda: [*held], died=first.requests)
    assert [request.attempt for request in (*first.requests, *second.requests)] == [1, 2]
    assert first.requests[0].run_key != second.requests[0].run_key
    third = ask(held, held, second.memory, unlearned=lambda: [*held], died=second.requests)
    assert third.requests == ()
    assert ask(held, held, third.memory, unlearned=lambda: [*held]).requests == ()


def test_what_was_learned_from_is_looked_up_once_a_validated_state():
    held = versions(1, 2, 3)
    looked = []
    memory = Memory()
    for _ in range(3):
        memory = ask(held, held, memory, unlearned=lambda: looked.append(1) or []).memory
    assert looked == [1]
    ask(held, held, memory, validated={**held, MONTHS[0]: "other rows"}, unlearned=lambda: looked.append(1) or [])
    assert looked == [1, 1]


@settings(max_examples=150)
@given(
    steps=st.lists(
        st.tuples(
            st.dictionaries(st.sampled_from(MONTHS[:6]), st.sampled_from(["x", "y"]), max_size=3),
            st.lists(
                st.sampled_from(["succeeds", "dies at once", "dies half way", "is refused"]), min_size=6, max_size=6
            ),
        ),
        max_size=8,
    )
)
def test_whatever_arrives_and_whatever_dies_each_delivery_is_asked_for_a_bounded_number_of_times(steps):
    found, held, memory, died, keys, asked = {}, {}, Memory(), (), [], {}
    for arrived, fates in [*steps, *[({}, ["succeeds"] * 6)] * (ATTEMPTS + 2)]:
        for key, content in arrived.items():
            if found.get(key) != f"{key} {content}":
                found[key] = f"{key} {content}"
                asked[key] = 0
        decided = ask(dict(found), dict(held), memory, died=died)
        partitions = [key for request in decided.requests for key in request.deliveries]
        assert len(set(partitions)) == len(partitions)
        keys += [request.run_key for request in decided.requests]
        died, memory = (), decided.memory
        for request, fate in zip(decided.requests, fates, strict=False):
            for number, (key, version) in enumerate(request.deliveries.items()):
                asked[key] += 1
                if fate in {"succeeds", "is refused"} or (fate == "dies half way" and not number):
                    held[key] = version
            died += (request,) if fate.startswith("dies") else ()
    assert len(set(keys)) == len(keys)
    assert max(asked.values(), default=0) <= ATTEMPTS
    assert all(held.get(key) == version or memory.given_up[key].version == version for key, version in found.items())


def ask_labels(found, held=None, memory=None, validated=(), predicted=(), **state):
    seen = State(found, held or {}, versions(*validated), reported={MONTHS[month - 1] for month in predicted}, **state)
    return plan_labels(spec(), seen, memory or Memory(), POSITION)


def test_labels_are_kept_joined_and_measured_as_far_as_their_rows_have_come():
    decided = ask_labels(versions(1, 2, 3, 4), validated=(1, 2, 3), predicted=(3,))
    assert spans(decided) == [(1, 2), (3,), (4,)]
    assert [request.assets for request in decided.requests] == [
        LABELLING,
        (*LABELLING, PERFORMANCE, DECISION),
        LABELLING[:1],
    ]
    assert {request.reason for request in decided.requests} == {"new_labels"}


def test_where_a_champion_is_it_is_decided_anew_about_labels_that_it_may_have_learned_from():
    [request] = ask_labels(versions(1), validated=(1,), champion=True).requests
    assert request.assets == (*LABELLING, DECISION)
    [early] = ask_labels(versions(1), champion=True).requests
    assert early.assets == LABELLING[:1]


def test_labels_are_asked_for_once_and_again_when_they_change():
    first = ask_labels(versions(1), validated=(1,))
    held = versions(1)
    assert ask_labels(versions(1), held, first.memory, validated=(1,)).requests == ()
    [again] = ask_labels(versions(1, version="v2"), held, first.memory, validated=(1,)).requests
    assert again.deliveries == versions(1, version="v2")
    assert again.run_key != first.requests[0].run_key


def test_labels_that_runs_died_on_are_given_up_by_themselves():
    first = ask_labels(versions(1, 2), validated=(1, 2))
    second = ask_labels(versions(1, 2), {}, first.memory, validated=(1, 2), died=first.requests)
    assert spans(second) == [(1,), (2,)]
    third = ask_labels(versions(1, 2), {}, second.memory, validated=(1, 2), died=second.requests[:1])
    assert MONTHS[0] in third.left
    assert "runs died on it" in third.left[MONTHS[0]]


def test_where_labels_come_later_the_run_of_new_rows_joins_what_labels_there_are_and_trains_nothing():
    [request] = ask(versions(1, 2, 3), learnable={}).requests
    assert request.assets == (*VALIDATION, LABELS)
    held = versions(1, 2, 3)
    [monitored] = ask(versions(1, 2, 3, 4), held, learnable=held, champion=True).requests
    assert monitored.assets == (*VALIDATION, LABELS, *MONITORING)


def test_where_labels_come_later_training_is_asked_for_once_when_enough_can_be_learned_from():
    held = versions(1, 2, 3)
    assert ask(held, held, learnable=versions(1, 2), unlearned=lambda: [*held]).requests == ()
    asked = ask(held, held, learnable=held, unlearned=lambda: [*held])
    assert [request.assets for request in asked.requests] == [TRAINING]
    assert ask(held, held, asked.memory, learnable=held, unlearned=lambda: [*held]).requests == ()
    more = ask(held, held, asked.memory, learnable=versions(1, 2, 3, version="more"), unlearned=tuple)
    assert more.requests == ()
