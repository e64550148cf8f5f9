-- Since when this store remembers: set once, by whoever comes first.
--
-- KEYS  the epoch  where there is one, what tells when it was last looked at
-- reply epoch µs, now µs

local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000000 + time[2])
redis.call('SET', KEYS[1], now, 'NX')
if KEYS[2] then
  redis.call('SET', KEYS[2], now)
end
return {redis.call('GET', KEYS[1]), now}
