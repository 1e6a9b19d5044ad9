-- Ends the lease of a message and, if it was still taken, puts another one in its place. Doing it twice does nothing the
-- second time.
-- KEYS: taken messages, leases, list of the other message, its held messages. ARGV: name, in how many ms (0: at once),
-- message.
if redis.call('HDEL', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('ZREM', KEYS[2], ARGV[1])
if ARGV[2] == '0' then
  redis.call('LPUSH', KEYS[3], ARGV[3])
else
  local t = redis.call('TIME')
  local due = string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000) + tonumber(ARGV[2]))
  redis.call('ZADD', KEYS[4], due, ARGV[3])
end
return 1
