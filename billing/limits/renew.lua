-- Let leases last on in the server's time, never shorter, and charge what their requests have used so far.
--
-- KEYS  {tenant}:held  {tenant}:leases
-- ARGV  lease µs, now µs or '' (tests only), then for each request its usage id and the input and the output that
--       it has used in all so far, or ''
-- reply how many of them were still held
--
-- What is charged is no longer reserved; what exceeds the reservation is a debt. Idempotent: a count that was charged, or
-- a smaller one, charges nothing. Nothing is refunded when a request ends with less than was charged.

local held_key, leases_key = KEYS[1], KEYS[2]
local prefix = string.sub(held_key, 1, -5)
local lease, now = tonumber(ARGV[1]), tonumber(ARGV[2])
keeps_for_ever = now ~= nil
now = now or server_time()

local function charge_running(record, used_input, used_output)
  local first, charged_input, charged_output = begun(record)
  local input, output = math.max(charged_input, used_input or 0), math.max(charged_output, used_output or 0)
  if input == charged_input and output == charged_output then
    return nil
  end
  local more = by_side(input - charged_input, output - charged_output)
  local parts = {RUNNING, struct.pack(CHARGED, input, output)}
  for place = first, #record, PROMISE_BYTES do
    local hold, side, name = struct.unpack(PROMISE, record, place)
    local value = redis.call('GET', prefix .. name)
    local bucket = value and parsed(value)
    if bucket and bucket.window > 0 then
      local part = math.min(hold, more[side])
      refill(bucket, now)
      debit(prefix .. name, bucket, part, more[side])
      hold = hold - part
    end
    parts[#parts + 1] = struct.pack(PROMISE, hold, side, name)
  end
  return table.concat(parts)
end

local count = 0
for place = 3, #ARGV, 3 do
  local id = ARGV[place]
  local record = redis.call('HGET', held_key, id)
  if is_held(record) then
    count = count + 1
    local changed = charge_running(record, tonumber(ARGV[place + 1]), tonumber(ARGV[place + 2]))
    if changed then
      redis.call('HSET', held_key, id, changed)
    end
    redis.call('ZADD', leases_key, 'XX', 'GT', now + lease, id)
  end
end
return count
