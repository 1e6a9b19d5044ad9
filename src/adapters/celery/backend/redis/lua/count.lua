-- Counts the end of a task of a chord's header, once. Whoever counts the last gets the right to call the body, for a time.
-- KEYS: ended tasks, extra size, size, who was counted, tree of results, right. ARGV: task and its place, ended task, place,
-- for how many seconds all is kept (0: for ever), for how many seconds the right holds, its name.
-- Answers 1, the tree if there is one, and all ended tasks; 2 if all have ended and somebody else has the right; or nothing.
if redis.call('GET', KEYS[6]) == 'done' then return {} end
if redis.call('SADD', KEYS[4], ARGV[1]) == 1 then redis.call('ZADD', KEYS[1], ARGV[3], ARGV[2]) end
if ARGV[4] ~= '0' then
  for at = 1, 5 do redis.call('EXPIRE', KEYS[at], ARGV[4]) end
end
local size = tonumber(redis.call('GET', KEYS[3]) or nil)
-- Whoever sent the header has not come to the end yet.
if not size then return {} end
local extra = tonumber(redis.call('GET', KEYS[2]) or '0')
if redis.call('ZCARD', KEYS[1]) ~= size + extra then return {} end
-- Ours already, if an answer was lost.
if not redis.call('SET', KEYS[6], ARGV[6], 'NX', 'EX', ARGV[5]) and redis.call('GET', KEYS[6]) ~= ARGV[6] then return {2} end
return {1, redis.call('GET', KEYS[5]), redis.call('ZRANGE', KEYS[1], 0, -1)}
