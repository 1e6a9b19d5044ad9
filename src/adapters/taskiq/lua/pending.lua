-- Finds entries that somebody has had for a while.
-- KEYS: the stream. ARGV: the group, for how many ms, until when that says something, how many at most.
local t = redis.call('TIME')
if t[1] + t[2] / 1000000 > tonumber(ARGV[3]) then return {} end
return redis.call('XPENDING', KEYS[1], ARGV[1], 'IDLE', ARGV[2], '-', '+', ARGV[4])
