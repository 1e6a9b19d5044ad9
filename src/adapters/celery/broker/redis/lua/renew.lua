-- Says of messages that they are still being worked on, but brings none back that has ended.
-- KEYS: times of unacked messages. ARGV: tags.
local t = redis.call('TIME')
local now = string.format('%d.%06d', t[1], t[2])
for _, tag in ipairs(ARGV) do redis.call('ZADD', KEYS[1], 'XX', now, tag) end
return 1
