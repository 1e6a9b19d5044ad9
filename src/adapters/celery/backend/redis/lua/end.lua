-- Removes what was counted of a chord whose body was called, and notes that, for those who count late.
-- KEYS: right, then what is removed. ARGV: its name, for how many seconds the note is kept.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
for at = 2, #KEYS do redis.call('DEL', KEYS[at]) end
redis.call('SET', KEYS[1], 'done', 'EX', ARGV[2])
return 1
