-- Sends what a schedule is for: once for each of its times, whoever asks and however often.
-- KEYS: its value, the list that has its id, when schedules were sent last, queue. ARGV: its id, this time in ms, the
-- shortest time since the last one in ms (0: this is the only time), command and most entries for `add`, message.
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
if ARGV[3] == '0' then
  redis.call('DEL', KEYS[1])
  redis.call('LREM', KEYS[2], 0, ARGV[1])
else
  local last = tonumber(redis.call('HGET', KEYS[3], ARGV[1]) or '')
  if last and tonumber(ARGV[2]) - last < tonumber(ARGV[3]) then return 0 end
  redis.call('HSET', KEYS[3], ARGV[1], ARGV[2])
end
add(ARGV[4], KEYS[4], ARGV[5], ARGV[6])
return 1
