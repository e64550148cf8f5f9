-- The law of a limit on one bucket: the twin of bucket.py, operation for operation, on doubles. It stands before
-- admit.lua and settle.lua, which are sent with it.

local LAYOUT = '<dddddd'       -- level, reserved, at, amount, window, burst
local PROMISE = '<dc32'        -- what a request holds of a bucket, and the bucket's name
local PROMISE_BYTES = 40
local HELD, RUNNING, ENDED = 'h', 'r', 't'   -- first byte of what is kept of a usage id
local CHARGED, CHARGED_BYTES = '<d', 8       -- of one that was charged while it runs: how much, before its promises
local TOLERANCE, TOLERANCE_SHARE = 0.000000001, 0.00000000000001
local SLOT_WAIT_US = 1000000
local SPARE_MS, LIFE_MAX_MS = 1000, 1000000000000000
local keeps_for_ever = false   -- with a made-up time, as tests give, the server's own expiry would not fit

local function server_time()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

-- Since when a server remembers, by the key that says so; since now where it is missing.
local function since(key, now)
  redis.call('SET', key, string.format('%.0f', now), 'NX')
  return redis.call('GET', key)
end

local function tolerance(burst)
  return TOLERANCE + burst * TOLERANCE_SHARE
end

local function parsed(value)
  local bucket = {}
  bucket.level, bucket.reserved, bucket.at, bucket.amount, bucket.window, bucket.burst = struct.unpack(LAYOUT, value)
  return bucket
end

local function refill(bucket, now)
  if bucket.window > 0 then
    local elapsed = math.max(0, now - bucket.at)
    bucket.level = math.min(bucket.burst, bucket.level + elapsed * bucket.amount / bucket.window)
  else
    bucket.level = bucket.burst
  end
  bucket.at = math.max(bucket.at, now)
end

-- A bucket in which something is reserved never expires: the reservation would be forgotten with it. One without lives
-- until it is full again, and then being absent says the same.
local function write(key, bucket)
  local value = struct.pack(LAYOUT, bucket.level, bucket.reserved, bucket.at, bucket.amount, bucket.window, bucket.burst)
  if bucket.reserved > 0 or (keeps_for_ever and bucket.window > 0) then
    redis.call('SET', key, value)
  elseif bucket.window == 0 then
    redis.call('DEL', key)
  else
    local life = math.ceil((bucket.burst - bucket.level) * bucket.window / bucket.amount / 1000) + SPARE_MS
    redis.call('SET', key, value, 'PX', math.min(math.max(life, SPARE_MS), LIFE_MAX_MS))
  end
end

local function is_held(record)
  if not record then
    return false
  end
  local state = string.sub(record, 1, 1)
  return state == HELD or state == RUNNING
end

-- Where the promises of a record begin, and what was charged of its request already.
local function begun(record)
  if string.sub(record, 1, 1) == RUNNING then
    return 2 + CHARGED_BYTES, (struct.unpack(CHARGED, record, 2))
  end
  return 2, 0
end

-- A reservation gives way to what was used.
local function debit(key, bucket, hold, used)
  bucket.reserved = math.max(0, bucket.reserved - hold)
  if bucket.window > 0 then
    bucket.level = bucket.level - used
  end
  write(key, bucket)
end

-- What a request held gives way to what it used in all; nil is all that it held.
local function charge(prefix, record, now, used)
  local first, charged = begun(record)
  for place = first, #record, PROMISE_BYTES do
    local hold, name = struct.unpack(PROMISE, record, place)
    local value = redis.call('GET', prefix .. name)
    if value then
      local bucket = parsed(value)
      refill(bucket, now)
      debit(prefix .. name, bucket, hold, used and math.max(0, used - charged) or hold)
    end
  end
end
