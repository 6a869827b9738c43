"""Faults planted in the source, each of which a named test must catch.

A test that passes shows little unless it can fail. Here are the mistakes that would hurt most, as
the edits by which somebody would make them: a line that stands in a module exactly once, and what
stands there instead. `tests/promises/test_mutations.py` makes each of them in a process of its own
and runs the test that is to catch it. A line that has changed is told: plant the fault anew.
"""

from __future__ import annotations

from typing import NamedTuple


class Mutation(NamedTuple):
    """One mistake."""

    name: str
    promise: str
    module: str
    """In which module of the package, without `taximeter.`."""
    line: str
    """What stands there."""
    fault: str
    """What would stand there."""
    caught_by: str
    """A test's id, as pytest takes it; of several cases, all are run until one fails."""


MUTATIONS = (
    Mutation(
        "an ignored fsync error",
        "D7",
        "journal._writer",
        "        except OSError as error:\n            self.error = error\n        finally:",
        "        except OSError:\n            pass\n        finally:",
        "tests/journal/test_writer.py::test_a_failed_fdatasync_is_never_asked_again",
    ),
    Mutation(
        "a close record after the last byte",
        "D1",
        "relay._answering",
        "            self._settle(self._outcome_of_whole_answer())\n"
        "        if self._last_words is not None:\n"
        "            self._delivery.write(body)\n",
        "            self._delivery.end(body, parser.trailers)\n"
        "            body = b''\n"
        "            self._settle(self._outcome_of_whole_answer())\n"
        "        if self._last_words is not None:\n"
        "            self._delivery.write(body)\n",
        "tests/relay/test_order.py::"
        "test_records_are_written_before_the_bytes_they_are_of[sized-interval]",
    ),
    Mutation(
        "a stream's end marker before its record",
        "D1",
        "relay._answering",
        "if tap is not None and tap.ended and not self._closed:",
        "if tap is not None and tap.ended and self._closed:",
        "tests/relay/test_order.py::"
        "test_records_are_written_before_the_bytes_they_are_of[no token-interval]",
    ),
    Mutation(
        "a stream's end marker before its record, on the short way",
        "D1",
        "relay._answering",
        "        self._leave_splice()\n        if not self._closed:\n",
        "        self._leave_splice()\n        if self._closed:\n",
        "tests/relay/test_order.py::"
        "test_records_are_written_before_the_bytes_they_are_of[a stream-interval]",
    ),
    Mutation(
        "a stream's chunk told from its bytes alone, on the short way",
        "C1",
        "relay._splice",
        "if chunks.between and reader.is_steady else None",
        "if reader.is_steady else None",
        "tests/relay/test_splice.py::test_the_short_way_of_a_stream_says_what_the_long_one_does",
    ),
    Mutation(
        "an event of a known form whose text ends its string",
        "C3",
        "relay._splice",
        " and text.translate(form.plain) == text:",
        ":",
        "tests/relay/test_splice.py::test_the_short_way_of_a_stream_says_what_the_long_one_does",
    ),
    Mutation(
        "an open record after the request has gone",
        "D1",
        "relay._asking",
        "            kept = self.worker.books.write(self._opened)\n",
        "            self._send_request()\n"
        "            self.worker.books.write(self._opened)\n"
        "            return\n",
        "tests/relay/test_order.py::"
        "test_records_are_written_before_the_bytes_they_are_of[sized-interval]",
    ),
    Mutation(
        "a call booked again when it is read again",
        "D2",
        "ledger._commit",
        "        repeated = pending.drop(_present(connection, list(pending.rows)))\n",
        "        repeated = set[str]()\n"
        "        connection.execute(calls.delete().where(calls.c.id.in_(list(pending.rows))))\n",
        "tests/ledger/test_commit.py::test_a_repeated_batch_changes_nothing",
    ),
    Mutation(
        "a commit that is not waited for",
        "D3",
        "ledger._engine",
        "PRAGMA synchronous=FULL",
        "PRAGMA synchronous=OFF",
        "tests/ledger/test_faults.py::test_a_commit_is_on_disk_when_it_returns",
    ),
    Mutation(
        "a checksum that is not looked at",
        "D4",
        "journal._format",
        "    if _CRC.unpack_from(buffer, offset + _FRAME.size)[0] != expected:\n",
        "    if _CRC.unpack_from(buffer, offset + _FRAME.size)[0] == -expected:\n",
        "tests/journal/test_reader.py::test_any_flipped_byte_costs_one_record_at_most",
    ),
    Mutation(
        "a segment given up before it is booked",
        "D5",
        "recorder._recorder",
        "        self._commit(ready, {follower.journal: done}, park, unpark, set_aside)\n",
        "        self._reclaim.journal(follower.journal)\n"
        "        self._commit(ready, {follower.journal: done}, park, unpark, set_aside)\n",
        "tests/recorder/test_recorder.py::test_a_recorder_may_die_anywhere",
    ),
    Mutation(
        "a lost call that is not counted",
        "D6",
        "relay._bookkeeper",
        "            self._writer.lost.add()\n",
        "            pass\n",
        "tests/relay/test_books.py::test_fail_open_relays_on_and_counts_what_it_lost",
    ),
    Mutation(
        "ids that follow the wall clock back",
        "D12",
        "call",
        "        if stamp <= self._last:\n",
        "        if stamp == self._last:\n",
        "tests/relay/test_pure.py::test_ids_go_on_when_the_clock_goes_back",
    ),
    Mutation(
        "a forged terminator",
        "C2",
        "relay._delivery",
        "        self.keep_alive = False\n        self.flush()\n",
        "        self.keep_alive = False\n        self.end(b'', b'')\n",
        "tests/relay/test_bad_line.py::test_an_answer_cut_at_any_byte_is_whole_to_nobody[chunked-limit_data]",
    ),
    Mutation(
        "a field of the connection that goes on",
        "C1",
        "relay._heads",
        '        b"te",\n',
        "",
        "tests/relay/test_pure.py::test_end_to_end_fields_keep_order_case_and_repetition",
    ),
    Mutation(
        "a slot that a client takes with it when it leaves",
        "C8",
        "relay._course",
        "        self._give_back()\n        self._client.exchange_ended",
        "        if not self.client_gone:\n            self._give_back()\n"
        "        self._client.exchange_ended",
        "tests/admission_live/test_leaving.py::test_whoever_leaves_whenever_leaves_nothing_behind",
    ),
    Mutation(
        "an unknown price of 0",
        "C10",
        "recorder._book",
        "            cost_pico=cost,\n",
        "            cost_pico=cost or 0,\n",
        "tests/recorder/test_book.py::test_what_a_call_costs",
    ),
    Mutation(
        "turns that cost nothing",
        "O1",
        "admission._fair",
        "            flow.tag = tag + int(waiter.fair_cost * _UNIT / flow.weight)\n",
        "            flow.tag = tag\n",
        "tests/admission/test_fair.py::test_o1_it_lets_go_in_the_order_of_the_textbook",
    ),
    Mutation(
        "a lost reservation",
        "O5",
        "admission._admission",
        "        hold, ticket.hold = ticket.hold, NOTHING\n",
        "        hold = ticket.hold = NOTHING\n",
        "tests/admission/test_admission.py::test_o5_whatever_happens_everything_is_given_back_once",
    ),
    Mutation(
        "a place that a straight call keeps",
        "O5",
        "admission._straight",
        "        if plan.keys and self._store is not None:\n",
        "        if plan.purses and self._store is not None:\n",
        "tests/admission/test_straight_cases.py::"
        "test_o5_a_call_that_nothing_keeps_goes_straight[limits with room]",
    ),
    Mutation(
        "a straight call that passes those who wait",
        "O1",
        "admission._straight",
        "        if pool.queue.waiting:\n            return None\n",
        "",
        "tests/admission/test_straight_cases.py::"
        "test_o5_a_call_that_something_keeps_is_left_as_it_was[somebody waits]",
    ),
    Mutation(
        "a slot given back with the head",
        "O7",
        "relay._answering",
        "        self._go(RELAYING)\n        sized = ",
        "        self._go(RELAYING)\n        self._give_back()\n        sized = ",
        "tests/relay/test_admission.py::test_a_stream_holds_its_slot_while_its_bytes_come",
    ),
    Mutation(
        "a kept answer for whoever has the key",
        "H10",
        "relay._repeating",
        "    return digest_of(*secrets_in(intake.head, intake.target))\n",
        '    return b""\n',
        "tests/relay/test_replay.py::test_nobody_gets_another_s_answer"
        "[Authorization: Bearer sk-bob]",
    ),
    Mutation(
        "an end like any other for an error in an opened stream",
        "C2",
        "relay._early_delivery",
        "            self.write(body)\n            self.break_off()\n",
        "            self.write(body)\n"
        "            super().end(self._event_of(bytes(self._error)), trailers)\n",
        "tests/relay/test_early_open.py::test_an_upstream_s_error_is_passed_on_in_the_stream"
        "[/v1/chat/completions]",
    ),
    Mutation(
        "keys told apart by their beginnings",
        "H6",
        "keys._store",
        "        if not compare_digest(key.digest, digest):\n",
        "        if not compare_digest(key.digest[:1], digest[:1]):\n",
        "tests/keys/test_store.py::test_keys_with_a_common_beginning_are_told_apart",
    ),
    Mutation(
        "an exception's words in the log",
        "H9",
        "serve._logging",
        '    return f"{exc_info[0].__name__}{place}"\n',
        '    return f"{exc_info[0].__name__}{place} {exc_info[1]}"\n',
        "tests/serve/test_logging.py::test_no_words_of_an_exception_are_written",
    ),
    Mutation(
        "a bug in the tap that ends the call",
        "L5",
        "relay._tap",
        "            self.go_blind(fault)\n",
        "            raise\n",
        "tests/relay/test_our_faults.py::test_a_bug_in_what_keeps_the_books_costs_no_call"
        "[taximeter.relay._tap:Tap.keep]",
    ),
)
