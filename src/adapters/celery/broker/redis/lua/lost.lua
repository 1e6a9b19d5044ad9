-- Finds messages that nobody has renewed for long.
-- KEYS: their times, what says that somebody else brings them back at present. ARGV: seconds, how many at most, until when that
-- says something. Answers the time before which they were renewed, and their tags.
if redis.call('EXISTS', KEYS[2]) == 1 then return {} end
local t = redis.call('TIME')
local time = t[1] + t[2] / 1000000
if time > tonumber(ARGV[3]) then return {} end
local oldest = string.format('%.6f', time - tonumber(ARGV[1]))
return {oldest, redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', oldest, 'LIMIT', 0, ARGV[2])}
