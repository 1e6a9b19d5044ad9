-- Puts messages onto lists unless those of this time, or a later one, were put there before.
-- KEYS: the last time, then lists. ARGV: the time, for how many seconds it is kept, then a text for each list.
local last = tonumber(redis.call('GET', KEYS[1]) or nil)
if last and last >= tonumber(ARGV[1]) then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
for at = 2, #KEYS do redis.call('LPUSH', KEYS[at], ARGV[at + 1]) end
return 1
