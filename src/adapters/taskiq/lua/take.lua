-- Takes messages off a list and leases them, in one step: whoever dies has lost none of them.
-- KEYS: list, taken messages, leases. ARGV: consumer, number of the first one, how many at most, ms of the lease, whether
-- the same was asked before (1 or 0). Answers names and messages in turn.
local t = redis.call('TIME')
local ends = string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000) + tonumber(ARGV[4]))
local answer = {}
for number = tonumber(ARGV[2]), tonumber(ARGV[2]) + tonumber(ARGV[3]) - 1 do
  local name = ARGV[1] .. ':' .. string.format('%.0f', number)
  -- An answer that was lost is given again.
  local message = ARGV[5] == '1' and redis.call('HGET', KEYS[2], name)
  if not message then
    message = redis.call('RPOP', KEYS[1])
    if not message then break end
    redis.call('HSET', KEYS[2], name, message)
  end
  redis.call('ZADD', KEYS[3], ends, name)
  answer[#answer + 1] = name
  answer[#answer + 1] = message
end
return answer
