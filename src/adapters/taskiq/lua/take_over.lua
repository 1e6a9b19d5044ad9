-- Takes messages whose lease has ended.
-- KEYS: taken messages, leases. ARGV: how many at most, ms of the new lease, until when leases that have ended say something.
-- Answers names and messages in turn.
local t = redis.call('TIME')
if t[1] + t[2] / 1000000 > tonumber(ARGV[3]) then return {} end
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local ends = string.format('%.0f', now + tonumber(ARGV[2]))
local answer = {}
for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', string.format('%.0f', now), 'LIMIT', 0, ARGV[1])) do
  local message = redis.call('HGET', KEYS[1], name)
  if message then
    redis.call('ZADD', KEYS[2], ends, name)
    answer[#answer + 1] = name
    answer[#answer + 1] = message
  else
    redis.call('ZREM', KEYS[2], name)
  end
end
return answer
