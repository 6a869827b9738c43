"""What the page of the comparison says beside its figures."""

HEAD = """# Taximeter beside other ways

Written by `python -m bench.peers`; the raw figures, a value a round, are in
[figures.json](figures.json). `make bench` runs this after the limits of
[bench/README.md](../README.md).

One upstream and one load, each a process of its own that sends and expects prepared bytes. The ways
of a section run at once and are measured in turns, the order turned about from round to round. A
figure is the median of the rounds; a ratio, and what is *added*, the median of what was found
within each round. CPU is read from `/proc` for all processes of a way, with the work that is left
to do when the load has ended. So a machine that has other things to do changes it little; times to
the first token and calls a second it does change, which is why each section says how much other
work there was. Absolute figures belong to their machine.

Where Taximeter has two rows, *journal only* is the process that relays: it admits a call, relays it
and writes two journal records, and nothing else stands in the call's way. *Full* is all of its
processes, with the recorder, which reads the journal behind the call's back: prices, ledger,
metrics, access log."""

GROWTH = """CPU of four calls at once, or of sixteen streams with a delta every 2 ms. An answer's
bytes are passed on as they come; of a request, Taximeter keeps up to 16 MiB to be able to send it
again, and reads in it the model, the user and what is asked for."""

RECORDER = """A journal of 20,000 calls, each with one attempt, that a recorder of its own books as
it is shipped: priced, in batches of 500, each a transaction that is safe on disk before the journal
may go. PostgreSQL runs beside it with its own defaults (`fsync` on); its work is not counted."""

REPORTS = """What reports group by is summed by the hour as calls are booked, so that most of them
need not read the calls."""

AFTER = """## What to make of it

- Taximeter is no match for nginx at passing bytes on, and misses its own limits (see
  [bench/README.md](../README.md)): a plain call takes it several times nginx's CPU, a delta up to
  twice as much. It does more for it, of which most nginx could not do at all; yet a user who wants
  bytes passed on and nothing known about them should take nginx.
- It takes less than the plain aiohttp handler, which meters nothing, and a fraction of what the
  other gateways take, which translate between APIs. Taximeter does not translate: a client speaks
  the API of the upstream it calls.
- With everything counted, recorder and all, a call costs about twice what its relaying does. That
  work is done behind the call and can be put on another core; it cannot be left out.
- Request bodies are where it is worst: they are read into memory before they go on, so that a call
  can be queued, limited, and tried again.
- Calls a second are measured with load, upstream and way on the same few cores: they say who leaves
  more room, and not what a way can do on a machine of its own."""
