-- The law of a limit on one bucket: the twin of bucket.py, operation for operation, on doubles. It stands before
-- admit.lua and settle.lua, which are sent with it.

local LAYOUT = '<ddddddB'      -- level, reserved, at, amount, window, burst, 1 for strict
local PROMISE = '<dBc32'       -- what a request holds of a bucket, the side that the bucket counts, the bucket's name
local PROMISE_BYTES = 41
local INPUT, OUTPUT, NEITHER = 1, 2, 3       -- sides; 0 is both together
local HELD, RUNNING, ENDED = 'h', 'r', 't'   -- first byte of what is kept of a usage id
local CHARGED, CHARGED_BYTES = '<dd', 16     -- of one that was charged while it runs: input and output, before its promises
local TOLERANCE, TOLERANCE_SHARE = 0.000000001, 0.00000000000001
local SLOT_WAIT_US, TOLD_US_MAX = 1000000, 1000000000000000
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
  local bucket, strict = {}
  bucket.level, bucket.reserved, bucket.at, bucket.amount, bucket.window, bucket.burst, strict = struct.unpack(LAYOUT, value)
  bucket.strict = strict == 1
  return bucket
end

local function window_start(now, window)
  return now - now % window
end

local function refill(bucket, now)
  local window, burst = bucket.window, bucket.burst
  if window == 0 then
    bucket.level = burst
  elseif bucket.strict then
    local windows = (window_start(now, window) - window_start(bucket.at, window)) / window
    if windows > 0 then
      bucket.level = math.min(burst, math.min(0, bucket.level) + windows * burst)
    end
  else
    local elapsed = math.max(0, now - bucket.at)
    bucket.level = math.min(burst, bucket.level + elapsed * bucket.amount / window)
  end
  bucket.at = math.max(bucket.at, now)
end

-- How long until so many windows of a strict bucket have begun that `missing` is there.
local function windows_us(bucket, missing)
  local windows = math.max(1, math.ceil((missing - tolerance(bucket.burst)) / bucket.burst))
  return math.min(TOLD_US_MAX, windows * bucket.window) - (bucket.at - window_start(bucket.at, bucket.window))
end

-- How long until all of it is there again, of which `free` is there now.
local function reset_us(bucket, free)
  local missing = bucket.burst - free
  if bucket.window == 0 or missing <= 0 then
    return 0
  elseif bucket.strict then
    return windows_us(bucket, bucket.burst - math.min(0, free))
  end
  return math.max(0, math.min(TOLD_US_MAX, math.ceil(missing * bucket.window / bucket.amount)))
end

-- A bucket in which something is reserved never expires: the reservation would be forgotten with it. One without lives
-- until it is full again, and then being absent says the same.
local function write(key, bucket)
  local value = struct.pack(
    LAYOUT, bucket.level, bucket.reserved, bucket.at, bucket.amount, bucket.window, bucket.burst, bucket.strict and 1 or 0)
  if bucket.reserved > 0 or (keeps_for_ever and bucket.window > 0) then
    redis.call('SET', key, value)
  elseif bucket.window == 0 then
    redis.call('DEL', key)
  else
    local life = math.ceil(reset_us(bucket, bucket.level) / 1000) + SPARE_MS
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
    local input, output = struct.unpack(CHARGED, record, 2)
    return 2 + CHARGED_BYTES, input, output
  end
  return 2, 0, 0
end

-- What a bucket of each side counts of an input and an output; nil where it is not known.
local function by_side(input, output)
  return {[0] = input and output and input + output, [INPUT] = input, [OUTPUT] = output, [NEITHER] = 0}
end

-- A reservation gives way to what was used.
local function debit(key, bucket, hold, used)
  bucket.reserved = math.max(0, bucket.reserved - hold)
  if bucket.window > 0 then
    bucket.level = bucket.level - used
  end
  write(key, bucket)
end

-- What a request held gives way to what it used in all, by side; where that is not known, all that it held is charged.
local function charge(prefix, record, now, used)
  local first, charged_input, charged_output = begun(record)
  local charged = by_side(charged_input, charged_output)
  for place = first, #record, PROMISE_BYTES do
    local hold, side, name = struct.unpack(PROMISE, record, place)
    local value = redis.call('GET', prefix .. name)
    if value then
      local bucket = parsed(value)
      refill(bucket, now)
      debit(prefix .. name, bucket, hold, used[side] and math.max(0, used[side] - charged[side]) or hold)
    end
  end
end
