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

CALL = """A call is 400 bytes of JSON over 32 kept connections: *steady*, 2,000 calls a second over
every way that carries them, and *full*, as fast as the way answers."""

DELTA = """64 streams of 200 deltas; each delta is one of 200 bytes, and there is one every 10 ms.
The streams' beginnings and ends are counted in. nginx as it comes gathers deltas before it passes
them on."""

FIRST = """Streams of twenty deltas that begin by the clock, however many are under way (an open
loop), from the time each was due to the first bytes of its answer's body. *Added* is what is beyond
direct; a tenth of a millisecond is within what differs from round to round. At ten a second a round
has forty streams, and its p99 is the slowest of them. LiteLLM does not carry 200 a second on one
core."""

IDLE = """What all processes of a way grow by (proportional set size) over so many streams that have
said their first word and then wait, divided by their number. A dash, or no row: not all of them had
begun within three minutes, or it was not asked of a way that slow. In this section alone Taximeter
goes without its guess of how many calls at once the upstream takes (`adaptive: false`): else most
of them would wait in its queue."""

FULL = """Calls of 400 bytes over 64 kept connections, as fast as they are answered. Load, upstream
and way share the machine's cores, so that a second worker takes from the others what it uses."""

GROWTH = """CPU of a call, four at once, and of a stream, sixteen or more at once with a delta every
5 ms. An answer's bytes are passed on as they come; of a request, Taximeter keeps up to 16 MiB to be
able to send it again, and reads in it the model, the user and what is asked for. nginx without
buffering reads a page of an answer at a time, which is what long answers cost it."""

RECORDER = """A journal of 20,000 calls, each with one attempt, that a recorder of its own books as
it is shipped: priced, in batches of 500, each a transaction that is safe on disk before the journal
may go. PostgreSQL runs beside it with its own defaults (`fsync` on); its work is not counted."""

REPORTS = """What reports group by is summed by the hour as calls are booked, so that most of them
need not read the calls."""

AFTER = """## What to make of it

- Taximeter is no match for nginx at passing bytes on: a plain call takes its relay about three
  times nginx's CPU at a steady load, where its limit is ([bench/README.md](../README.md)), and
  over four times at full load; a delta takes less than half as much again. It does more for it,
  of which most nginx could not do at all; yet a user who wants bytes passed on and nothing known
  about them should take nginx.
- Its relaying takes half of what the plain aiohttp handler takes for a call, which meters nothing;
  with recorder and all it takes as much, and less for a delta. The other gateways, which translate
  between APIs, take four times that at the least. Taximeter does not translate: a client speaks the
  API of the upstream it calls.
- The recorder takes as much again as a call's relaying, and with traces twice that. That work is
  done behind the call and can be put on another core; it cannot be left out.
- It is worst at small calls: what it does for a call is the same for any size. From 100 KB on the
  difference is small beside the bytes; there a request costs it more than an answer, for it is read
  into memory before it goes on, so that a call can be queued, limited, and tried again. Of answers
  of a megabyte the plain handler takes less than Taximeter does.
- The slowest of its first tokens are a few milliseconds late, no better than the plain handler's.
- Calls a second say who leaves more room to load and upstream, and not what a way can do on a
  machine of its own."""
