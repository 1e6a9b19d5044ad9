-- Sends what a schedule is for: once for each of its times, whoever asks and however often.
-- KEYS: its value, the list that has its id, when schedules were sent last, queue. ARGV: its id, this time in ms, the
-- shortest time since the last one in ms (0: this is the only time), what adds a message (XADD, LPUSH or PUBLISH), most
-- entries of a stream (0: no limit), message.
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
if ARGV[3] == '0' then
  redis.call('DEL', KEYS[1])
  redis.call('LREM', KEYS[2], 0, ARGV[1])
else
  local last = tonumber(redis.call('HGET', KEYS[3], ARGV[1]) or '')
  if last and tonumber(ARGV[2]) - last < tonumber(ARGV[3]) then return 0 end
  redis.call('HSET', KEYS[3], ARGV[1], ARGV[2])
end
if ARGV[4] ~= 'XADD' then
  redis.call(ARGV[4], KEYS[4], ARGV[6])
elseif ARGV[5] == '0' then
  redis.call('XADD', KEYS[4], '*', 'data', ARGV[6])
else
  redis.call('XADD', KEYS[4], 'MAXLEN', '~', ARGV[5], '*', 'data', ARGV[6])
end
return 1
