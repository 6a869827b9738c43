"""The scripts that run inside Redis: each is one step of a store, all of it or nothing.

Time is the server's own, in whole microseconds since the epoch: a double holds those exactly
(1.7e15 is below 2^53), which it does not with nanoseconds. Amounts go in and out as strings of
digits and are added by `HINCRBY`, exactly, up to 2^63; only comparisons are of doubles, and they
are exact up to 9,007 US dollars and beyond that to a billionth of one.

What is kept, all of it with an expiry:

    rate     hash   t: when the bucket is full again, r: sum of refunds, c: when it was made
    slots    hash   n:W calls under way of worker W, e:W when that lapses,
                    w:W until when W is known to wait for a slot, f:W since when
    purse    hash   s: spent, r:W reserved by calls of W, e:W when that lapses,
                    q:W number of the last booking of W (a booking that comes twice counts once)
    breaker  string there for as long as a worker's breaker is open

A worker renews what it holds with `BEAT`, which states it anew and in full: whatever was lost or
counted twice on the way is right again by then. What a worker held that has died lapses.

A bucket that has been forgotten and made anew has another `c`: a reservation from before lies in
the past of it, and refunds nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha1

SERVER_TIME = """
local function now_us()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end
"""

_SHARED = """
local HOUR, DAY = 3600, 86400
local KEPT_SECONDS = 2 * DAY
local WAITS_US = 250000
local FULL_KEPT_MS = 60000
local MOST = '9000000000000000000'

local function is_leap(year)
  return year % 4 == 0 and (year % 100 ~= 0 or year % 400 == 0)
end

-- The calendar window (UTC) around a time: its start, and that of the next, in seconds.
local function window(per, now)
  local seconds = math.floor(now / 1000000)
  if per == 'hour' then
    local start = seconds - seconds % HOUR
    return start, start + HOUR
  end
  local start = seconds - seconds % DAY
  if per == 'day' then
    return start, start + DAY
  end
  local day, year = start / DAY, 1970
  while true do
    local length = is_leap(year) and 366 or 365
    if day < length then break end
    day, year = day - length, year + 1
  end
  local months = {31, is_leap(year) and 29 or 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31}
  local month = 1
  while day >= months[month] do
    day, month = day - months[month], month + 1
  end
  start = start - day * DAY
  return start, start + months[month] * DAY
end

-- A hash's fields `x:W`, as tables by x and then W; what has lapsed is left out.
local function by_worker(key, now)
  local flat, found = redis.call('HGETALL', key), {n = {}, e = {}, w = {}, f = {}, r = {}, q = {}}
  for i = 1, #flat, 2 do
    local kind, worker = string.sub(flat[i], 1, 1), string.sub(flat[i], 3)
    if kind == 's' then
      found.spent = flat[i + 1]
    else
      found[kind][worker] = flat[i + 1]
    end
  end
  for worker, lapses in pairs(found.e) do
    if tonumber(lapses) < now then
      found.n[worker], found.w[worker], found.f[worker], found.r[worker] = nil, nil, nil, nil
      -- A booking may be tried again for as long as its worker may be cut off.
      if tonumber(lapses) < now - 3600000000 or not found.q[worker] then
        redis.call('HDEL', key, 'n:' .. worker, 'e:' .. worker, 'w:' .. worker, 'f:' .. worker,
                   'r:' .. worker, 'q:' .. worker)
      end
    end
  end
  return found
end

-- Sums are 64-bit numbers. One that would be more stays at the most there is: an error here would
-- come again with every call of its budget.
local function add(key, field, amount)
  local sum = redis.pcall('HINCRBY', key, field, amount)
  if type(sum) == 'table' and sum.err then
    redis.call('HSET', key, field, MOST)
  end
end

local function keep_slots(key, me, now, lease)
  redis.call('HSET', key, 'e:' .. me, now + lease)
  redis.call('PEXPIRE', key, math.ceil(lease / 1000) + 1000)
end
"""

_ADMIT = """
local me, lease, passing = ARGV[1], tonumber(ARGV[2]), ARGV[3] == '1'
local purses, slots, rates = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local now, at = now_us(), 7
local holds, starts, spents, soft = {}, {}, {}, {}

for i = 1, purses do
  local per, limit, amount, hard = ARGV[at], tonumber(ARGV[at + 1]), ARGV[at + 2], ARGV[at + 3]
  at = at + 4
  local start, stop = window(per, now)
  local key = KEYS[i] .. ':' .. start
  if amount == 'unpriced' then
    return {2, i, stop * 1000000 - now}
  end
  local found = by_worker(key, now)
  local used = tonumber(found.spent or '0')
  for _, reserved in pairs(found.r) do
    used = used + reserved
  end
  if used + amount > limit or used >= limit then
    if hard == '1' then
      return {1, i, stop * 1000000 - now, start, found.spent or '0'}
    end
    soft[#soft + 1] = i
  end
  holds[i] = {key, amount, stop}
  starts[i], spents[i] = start, found.spent or '0'
end

-- Whether a worker may take one more slot, or must leave it to another that waits: one that has
-- its share leaves what is free to others, and one that has none and has waited longest is first.
local function may_take(found, limit)
  local total, active, mine = 0, 1, tonumber(found.n[me] or '0')
  local waits = found.w[me] and tonumber(found.w[me]) > now
  local since = waits and tonumber(found.f[me]) or now
  local others, earlier = 0, 0
  for worker, count in pairs(found.n) do
    total = total + count
  end
  for worker, _ in pairs(found.e) do
    if worker ~= me then
      local has = tonumber(found.n[worker] or '0')
      local is_waiting = found.w[worker] and tonumber(found.w[worker]) > now
      if is_waiting then
        others = others + 1
        if has == 0 and tonumber(found.f[worker]) < since then
          earlier = earlier + 1
        end
      end
      if is_waiting or has > 0 then
        active = active + 1
      end
    end
  end
  local free = limit - total
  if free <= 0 or free <= earlier then
    return false, since
  end
  if others > 0 and mine >= math.ceil(limit / active) and free <= others then
    return false, since
  end
  return true, since
end

local function take()
  for i = 1, slots do
    local key, limit = KEYS[purses + i], tonumber(ARGV[at + i - 1])
    if limit == 0 then
      return {1, i, 0, 1}
    end
    local may, since = may_take(by_worker(key, now), limit)
    if not may then
      redis.call('HSET', key, 'w:' .. me, now + WAITS_US, 'f:' .. me, since)
      keep_slots(key, me, now, lease)
      return {1, i, 0, 0}
    end
  end
  local first, cells, taken = at + slots, {}, {0}
  for i = 1, rates do
    local cost, tolerance = tonumber(ARGV[first + 2 * i - 2]), tonumber(ARGV[first + 2 * i - 1])
    if cost < 0 then
      return {1, slots + i, 0, 1}
    end
    local cell = redis.call('HMGET', KEYS[purses + slots + i], 't', 'r', 'c')
    local full = math.max(tonumber(cell[1] or '0'), now) + cost
    local wait = full - tolerance - now
    if wait > 0 then
      return {1, slots + i, wait, 0}
    end
    cells[i] = {full, tonumber(cell[2] or '0'), tonumber(cell[3] or now)}
  end
  for i, cell in ipairs(cells) do
    local key = KEYS[purses + slots + i]
    redis.call('HSET', key, 't', cell[1], 'r', cell[2], 'c', cell[3])
    redis.call('PEXPIRE', key, math.ceil((cell[1] - now) / 1000) + FULL_KEPT_MS)
    taken[#taken + 1] = cell[1] + cell[2]
    taken[#taken + 1] = cell[3]
  end
  for i = 1, slots do
    local key = KEYS[purses + i]
    redis.call('HINCRBY', key, 'n:' .. me, 1)
    redis.call('HDEL', key, 'w:' .. me, 'f:' .. me)
    keep_slots(key, me, now, lease)
  end
  return taken
end

local taken = passing and take() or {}
for _, hold in ipairs(holds) do
  add(hold[1], 'r:' .. me, hold[2])
  redis.call('HSET', hold[1], 'e:' .. me, now + lease)
  redis.call('EXPIRE', hold[1], math.ceil(hold[3] - now / 1000000) + KEPT_SECONDS)
end
return {0, starts, spents, soft, taken}
"""

_SETTLE = """
local me, booking = ARGV[1], tonumber(ARGV[2])
local purses, slots, rates = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local now, at = now_us(), 6

for i = 1, purses do
  local key, reserved, spent = KEYS[i], ARGV[at], ARGV[at + 1]
  at = at + 2
  if reserved ~= '0' then
    local had = tonumber(redis.call('HGET', key, 'r:' .. me) or '0')
    if had <= tonumber(reserved) then
      redis.call('HDEL', key, 'r:' .. me)
    else
      redis.call('HINCRBY', key, 'r:' .. me, '-' .. reserved)
    end
  end
  if booking > tonumber(redis.call('HGET', key, 'q:' .. me) or '0') then
    add(key, 's', spent)
    redis.call('HSET', key, 'q:' .. me, ARGV[2])
    if redis.call('HEXISTS', key, 'e:' .. me) == 0 then
      redis.call('HSET', key, 'e:' .. me, now)
    end
  end
  if redis.call('TTL', key) == -1 then
    redis.call('EXPIRE', key, 31 * DAY + KEPT_SECONDS)
  end
end

for i = 1, slots do
  local key = KEYS[purses + i]
  if tonumber(redis.call('HGET', key, 'n:' .. me) or '0') > 1 then
    redis.call('HINCRBY', key, 'n:' .. me, -1)
  else
    redis.call('HDEL', key, 'n:' .. me)
  end
end

for i = 1, rates do
  local key = KEYS[purses + slots + i]
  local unused, mark, made = tonumber(ARGV[at]), tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  at = at + 3
  local cell = redis.call('HMGET', key, 't', 'r', 'c')
  local full, refunds = tonumber(cell[1] or now), tonumber(cell[2] or '0')
  local changed = false
  if unused < 0 then
    full, changed = math.max(full, now) - unused, true
  elseif cell[1] and made == tonumber(cell[3]) then
    local refund = math.min(unused, mark - refunds - now)
    if refund > 0 then
      full, refunds, changed = full - refund, refunds + refund, true
    end
  end
  if changed then
    if full <= now then
      redis.call('DEL', key)
    else
      redis.call('HSET', key, 't', full, 'r', refunds, 'c', cell[3] or now)
      redis.call('PEXPIRE', key, math.ceil((full - now) / 1000) + FULL_KEPT_MS)
    end
  end
end
return 1
"""

_BEAT = """
local me, lease, slots, purses = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local now = now_us()
for i = 1, slots do
  local key, count = KEYS[i], ARGV[4 + i]
  if count == '0' then
    redis.call('HDEL', key, 'n:' .. me)
  else
    redis.call('HSET', key, 'n:' .. me, count)
    keep_slots(key, me, now, lease)
  end
end
for i = slots + 1, slots + purses do
  local key, reserved = KEYS[i], ARGV[4 + i]
  if reserved == '0' then
    redis.call('HDEL', key, 'r:' .. me)
  else
    redis.call('HSET', key, 'r:' .. me, reserved, 'e:' .. me, now + lease)
    if redis.call('TTL', key) == -1 then
      redis.call('EXPIRE', key, 31 * DAY + KEPT_SECONDS)
    end
  end
end
return 1
"""


_RAISE = """
for i, key in ipairs(KEYS) do
  if tonumber(redis.call('HGET', key, 's') or '0') < tonumber(ARGV[i]) then
    redis.call('HSET', key, 's', ARGV[i])
    if redis.call('TTL', key) == -1 then
      redis.call('EXPIRE', key, 31 * DAY + KEPT_SECONDS)
    end
  end
end
return 1
"""

_BREAK = """
local left = {}
for i, key in ipairs(KEYS) do
  local mine, others = tonumber(ARGV[i]), math.max(0, redis.call('PTTL', key))
  if mine > others then
    redis.call('SET', key, '1', 'PX', mine)
  end
  left[i] = others
end
return left
"""


@dataclass(frozen=True, slots=True)
class Script:
    """A script, and the name it goes by once Redis has it."""

    text: str
    digest: str

    @classmethod
    def of(cls, body: str, clock: str) -> Script:
        """Make a script that tells the time by `clock`: Lua that defines `now_us()`."""
        text = clock + _SHARED + body
        # SHA-1 is what `EVALSHA` takes; it names the script and protects nothing.
        return cls(text, sha1(text.encode(), usedforsecurity=False).hexdigest())


@dataclass(frozen=True, slots=True)
class Scripts:
    """All of them."""

    admit: Script
    settle: Script
    beat: Script
    breakers: Script
    raise_spent: Script

    @classmethod
    def of(cls, clock: str = SERVER_TIME) -> Scripts:
        """Make them, all going by one clock."""
        return cls(*(Script.of(body, clock) for body in (_ADMIT, _SETTLE, _BEAT, _BREAK, _RAISE)))

    @property
    def all(self) -> tuple[Script, ...]:
        """Every script, to be loaded."""
        return (self.admit, self.settle, self.beat, self.breakers, self.raise_spent)
