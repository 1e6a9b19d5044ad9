-- Adds a message unless that was done before.
-- KEYS: queue, what says so. ARGV: how long that is remembered in ms, command and most entries for `add`, message.
-- Answers 1, or 0 if it was added before, or -1 if it was added to a channel that nobody hears.
if not redis.call('SET', KEYS[2], '1', 'NX', 'PX', ARGV[1]) then return 0 end
if add(ARGV[2], KEYS[1], ARGV[3], ARGV[4]) ~= 0 then return 1 end
redis.call('DEL', KEYS[2])
return -1
