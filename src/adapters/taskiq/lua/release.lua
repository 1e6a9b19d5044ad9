-- Moves messages whose time has come to their queue.
-- KEYS: queue, held messages. ARGV: how many at most, command and most entries for `add`.
-- Answers in how many ms the next one is due, or -1.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local due = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', string.format('%.0f', now), 'LIMIT', 0, ARGV[1])
for _, message in ipairs(due) do
  add(ARGV[2], KEYS[1], ARGV[3], message)
  redis.call('ZREM', KEYS[2], message)
end
local next = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')
if not next[2] then return -1 end
return math.max(0, tonumber(next[2]) - now)
