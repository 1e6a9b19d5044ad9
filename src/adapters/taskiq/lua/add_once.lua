-- Adds a message unless that was done before.
-- KEYS: queue, what says so. ARGV: how long that is remembered in ms, what adds it (XADD, LPUSH or PUBLISH), most entries of
-- a stream (0: no limit), message.
if not redis.call('SET', KEYS[2], '1', 'NX', 'PX', ARGV[1]) then return -1 end
if ARGV[2] ~= 'XADD' then return redis.call(ARGV[2], KEYS[1], ARGV[4]) end
if ARGV[3] == '0' then
  redis.call('XADD', KEYS[1], '*', 'data', ARGV[4])
else
  redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[3], '*', 'data', ARGV[4])
end
return 1
