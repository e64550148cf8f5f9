-- Admit a request under all its limits or under none, in the server's time.
--
-- KEYS  {tenant}:held  {tenant}:leases  then the bucket of each limit
-- ARGV  usage id, lease µs, what a tenant that is not known gets as its epoch: µs, or the key that holds it (set now where
--       it is missing), '' or the input that was charged of the request already: then it is forced, the output that was,
--       leases to look at at most, grace µs, now µs or '' (tests only),
--       then for each limit six doubles: amount, window µs, burst, created µs, take, hold,
--       and three bytes: 1 for shadow, the side that it counts, 1 for strict
-- reply state (0 refused, 1 admitted, 2 the id has ended), now µs, 1 if the tenant was not known,
--       then for each limit: fits, remaining, reset µs, wait µs
--
-- Idempotent by the usage id: an id that is held is answered again and takes nothing. Forced, everything is granted
-- whatever is left: what was admitted elsewhere must be known here.

local REFUSED, ADMITTED, OVER = 0, 1, 2
local FIRST_BUCKET, FIRST_LIMIT = 3, 9
local ASK = '<ddddddBBB'

local held_key, leases_key = KEYS[1], KEYS[2]
local prefix = string.sub(held_key, 1, -5)
local id, lease, grace = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[7])
local charged_input, charged_output = tonumber(ARGV[4]), tonumber(ARGV[5])
local is_forced = charged_input ~= nil
local now = tonumber(ARGV[8])
keeps_for_ever = now ~= nil
now = now or server_time()

-- What dead gateways never settled is charged in full when its lease ends. One that is found over lasts for the grace
-- once more, in which a gateway that lives renews it: this server may have hung, refused or been away for longer than a
-- lease, or its clock was set on, and nobody could renew any. Half a microsecond marks one that had its grace.
local ends_max = tonumber(ARGV[6])
if ends_max > 0 then
  local over = redis.call('ZRANGE', leases_key, '-inf', now, 'BYSCORE', 'LIMIT', 0, ends_max, 'WITHSCORES')
  for place = 1, #over, 2 do
    local member = over[place]
    local record = redis.call('HGET', held_key, member)
    if grace > 0 and is_held(record) and tonumber(over[place + 1]) % 1 == 0 then
      redis.call('ZADD', leases_key, now + grace + 0.5, member)
    else
      if is_held(record) then
        charge(prefix, record, now, by_side(nil, nil))
      end
      redis.call('HDEL', held_key, member)
      redis.call('ZREM', leases_key, member)
    end
  end
end

local known = redis.call('HMGET', held_key, 'epoch', id)
local epoch, record = tonumber(known[1]), known[2]
local begins = epoch and 0 or 1
if not epoch then
  local word = tonumber(ARGV[3]) and ARGV[3] or since(ARGV[3], now)
  epoch = tonumber(word)
  redis.call('HSET', held_key, 'epoch', word)
end
if record and string.sub(record, 1, 1) == ENDED then
  return {OVER, now, begins}
end

local count = #KEYS - FIRST_BUCKET + 1
local values = count > 0 and redis.call('MGET', unpack(KEYS, FIRST_BUCKET)) or {}
local buckets, takes, holds, sides, fit = {}, {}, {}, {}, {}
local is_admitted = true
for i = 1, count do
  local amount, window, burst, created, take, hold, shadow, side, strict =
    struct.unpack(ASK, ARGV[FIRST_LIMIT + i - 1])
  local bucket
  strict = strict == 1
  if values[i] then
    bucket = parsed(values[i])
    if strict then
      -- What was used stays used of the window's amount as it is now.
      local level = bucket.level
      bucket.level = bucket.strict and math.max(math.min(0, level), level + burst - bucket.burst) or math.min(burst, level)
    end
    bucket.amount, bucket.window, bucket.burst, bucket.strict = amount, window, burst, strict
    refill(bucket, now)
  else
    bucket = {level = burst, reserved = 0, at = now, amount = amount, window = window, burst = burst, strict = strict}
    if window > 0 and created < epoch then
      if strict then
        bucket.level = window_start(now, window) < epoch and 0 or burst
      else
        bucket.level = math.min(burst, math.max(0, now - epoch) * amount / window)
      end
    end
  end
  if window == 0 and created < epoch and now < epoch + grace then
    bucket.level = 0
  end
  buckets[i], takes[i], holds[i], sides[i] = bucket, take, hold, side
  fit[i] = take + hold <= bucket.level - bucket.reserved + tolerance(burst)
  if not fit[i] and shadow == 0 then
    is_admitted = false
  end
end

local is_new = not record
if is_new and (is_admitted or is_forced) then
  local is_running = is_forced and (charged_input > 0 or charged_output > 0)
  local promises = is_running and {RUNNING, struct.pack(CHARGED, charged_input, charged_output)} or {HELD}
  for i = 1, count do
    if fit[i] or is_forced then
      local bucket, hold = buckets[i], holds[i]
      bucket.level = bucket.level - takes[i]
      if bucket.strict then
        bucket.level = math.min(bucket.burst, bucket.level)
      end
      bucket.reserved = bucket.reserved + hold
      write(KEYS[FIRST_BUCKET + i - 1], bucket)
      if hold > 0 or is_running then
        promises[#promises + 1] = struct.pack(PROMISE, hold, sides[i], string.sub(KEYS[FIRST_BUCKET + i - 1], #prefix + 1))
      end
    end
  end
  redis.call('HSET', held_key, id, table.concat(promises))
  redis.call('ZADD', leases_key, now + lease, id)
end

local reply = {(record or is_admitted or is_forced) and ADMITTED or REFUSED, now, begins}
for i = 1, count do
  local bucket = buckets[i]
  local free = bucket.level - bucket.reserved
  local wait = 0
  if not fit[i] then
    local needed = takes[i] + holds[i]
    local is_too_much = needed + bucket.reserved > bucket.burst + tolerance(bucket.burst)
    if bucket.window == 0 then
      wait = SLOT_WAIT_US
    elseif bucket.strict then
      wait = windows_us(bucket, is_too_much and bucket.burst - math.min(0, free)
        or needed + bucket.reserved - math.min(0, bucket.level))
    else
      if is_too_much then
        needed = math.max(needed, bucket.burst)
      end
      wait = math.max(1, math.min(TOLD_US_MAX, math.ceil((needed - free) * bucket.window / bucket.amount)))
    end
  end
  local place = 4 * i
  reply[place] = fit[i] and 1 or 0
  reply[place + 1] = math.floor(math.max(0, free + tolerance(bucket.burst)))
  reply[place + 2] = reset_us(bucket, free)
  reply[place + 3] = wait
end
return reply
