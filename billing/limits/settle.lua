-- End a request: what it reserved gives way to what it used, and its slots are free. Idempotent by the usage id.
--
-- KEYS  {tenant}:held  {tenant}:leases
-- ARGV  usage id, input and output used ('' charges all that it held of them), 'release' or '',
--       µs to remember that the id has ended or 0, now µs or '' (tests only)
-- reply 1 if the id was held
--
-- A release charges nothing: it is for a request whose admission nobody waited for. The request itself stays counted.
-- It is remembered, so that an admission which arrives after it takes nothing.

local held_key, leases_key = KEYS[1], KEYS[2]
local prefix = string.sub(held_key, 1, -5)
local id, is_released, memory = ARGV[1], ARGV[4] == 'release', tonumber(ARGV[5])
local now = tonumber(ARGV[6])
keeps_for_ever = now ~= nil
now = now or server_time()

local record = redis.call('HGET', held_key, id)
local was_held = is_held(record)
if was_held then
  charge(prefix, record, now, is_released and by_side(0, 0) or by_side(tonumber(ARGV[2]), tonumber(ARGV[3])))
end
if memory > 0 then
  redis.call('HSET', held_key, id, ENDED)
  redis.call('ZADD', leases_key, now + memory, id)
elseif record then
  redis.call('HDEL', held_key, id)
  redis.call('ZREM', leases_key, id)
end
return was_held and 1 or 0
