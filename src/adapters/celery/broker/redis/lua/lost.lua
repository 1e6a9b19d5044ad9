-- Finds messages that nobody has renewed for long.
-- KEYS: their times, what says that somebody else brings them back at present. ARGV: seconds, how many at most.
if redis.call('EXISTS', KEYS[2]) == 1 then return {} end
local t = redis.call('TIME')
local oldest = string.format('%.6f', t[1] + t[2] / 1000000 - tonumber(ARGV[1]))
return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', oldest, 'LIMIT', 0, ARGV[2])
