-- Run first on each connection to a server that is no cluster: what an old snapshot brought back is forgotten.
--
-- KEYS  the epoch  when a gateway last looked at it  which process did last answer
-- reply 1 if everything was forgotten, -1 if INFO or SCAN is forbidden
--
-- A server without an append-only file that is started again holds what it held at its last snapshot, the epoch with it:
-- limits that were used up since would be handed out again. It is known by three things: another process answers than
-- before, it began after gateways had last looked, and it appends to no file. A replica that took over began before. A
-- server that tells none of this is trusted: to admit a limit twice once is better than to admit nothing ever again.

local SECOND_US, PAGE = 1000000, 1000
local OURS = '^{' .. string.rep('%x', 32) .. '}:'

local function told(section, field)
  local text = redis.pcall('INFO', section)
  return type(text) == 'string' and string.match(text, '\n' .. field .. ':(%w+)') or nil
end

local epoch_key, seen_key, process_key = KEYS[1], KEYS[2], KEYS[3]
local process = told('server', 'run_id')
local known = redis.call('GET', process_key)
if not process then
  return -1
elseif known == process then
  return 0
end

local time = redis.call('TIME')
local now = time[1] * SECOND_US + time[2]
local uptime, seen = tonumber(told('server', 'uptime_in_seconds')), tonumber(redis.call('GET', seen_key))
local is_old = known and seen and uptime and now - uptime * SECOND_US > seen and told('persistence', 'aof_enabled') == '0'
if not is_old then
  redis.pcall('SET', process_key, process)  -- a server that is full may still be told what ends
  return 0
end

local cursor = '0'
repeat
  local page = redis.pcall('SCAN', cursor, 'MATCH', '{*}:*', 'COUNT', PAGE)
  if page.err then
    redis.call('SET', process_key, process)
    return -1
  end
  cursor = page[1]
  for _, key in ipairs(page[2]) do
    if string.find(key, OURS) then
      redis.call('UNLINK', key)
    end
  end
until cursor == '0'
redis.call('SET', epoch_key, string.format('%.0f', now))
redis.call('SET', process_key, process)
return 1
