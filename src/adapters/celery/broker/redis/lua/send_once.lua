-- Puts the message of a task onto lists unless that was done before.
-- KEYS: what says so, then lists. ARGV: how long that is remembered in seconds, then a text for each list.
if not redis.call('SET', KEYS[1], '1', 'NX', 'EX', ARGV[1]) then return 0 end
for at = 2, #KEYS do redis.call('LPUSH', KEYS[at], ARGV[at]) end
return 1
