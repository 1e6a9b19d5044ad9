-- Ends a message and, if it was still ours, puts others onto lists. Doing it twice does nothing the second time.
-- KEYS: unacked messages, their times, then lists. ARGV: tag, how it has to be (a time: not renewed since then; '': as it
-- is), the command that puts the others there, then a text for each list.
if ARGV[2] ~= '' then
  local since = redis.call('ZSCORE', KEYS[2], ARGV[1])
  if not since or tonumber(since) > tonumber(ARGV[2]) then return 0 end
end
redis.call('ZREM', KEYS[2], ARGV[1])
if redis.call('HDEL', KEYS[1], ARGV[1]) == 0 then return 0 end
for at = 3, #KEYS do redis.call(ARGV[3], KEYS[at], ARGV[at + 1]) end
return 1
