-- Takes an entry out of the hands of a consumer and, if it was there, puts another message in its place. Doing it twice does
-- nothing the second time.
-- KEYS: stream, stream of the other message, its held messages. ARGV: group, entry, whether to delete it (1 or 0), most
-- entries for `add`, in how many ms (0: at once), message.
if redis.call('XACK', KEYS[1], ARGV[1], ARGV[2]) == 0 then return 0 end
if ARGV[3] == '1' then redis.call('XDEL', KEYS[1], ARGV[2]) end
if ARGV[5] == '0' then
  add('XADD', KEYS[2], ARGV[4], ARGV[6])
else
  local t = redis.call('TIME')
  local due = string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000) + tonumber(ARGV[5]))
  redis.call('ZADD', KEYS[3], due, ARGV[6])
end
return 1
