-- Makes the right to call a chord's body last longer, if it is still ours or nobody's.
-- KEYS: right, size. ARGV: its name, for how many seconds.
local owner = redis.call('GET', KEYS[1])
if owner == ARGV[1] then return redis.call('EXPIRE', KEYS[1], ARGV[2]) end
if owner or redis.call('EXISTS', KEYS[2]) == 0 then return 0 end
return redis.call('SET', KEYS[1], ARGV[1], 'NX', 'EX', ARGV[2]) and 1 or 0
