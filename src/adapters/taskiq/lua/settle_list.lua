-- Ends the lease of a message and, if it was still taken, puts others in its place. Doing it twice does nothing the second
-- time.
-- KEYS: taken messages, leases, list of what is put, its held messages. ARGV: name, in how many ms (0: at once), messages.
if redis.call('HDEL', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('ZREM', KEYS[2], ARGV[1])
local t = redis.call('TIME')
local due = string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000) + tonumber(ARGV[2]))
for at = 3, #ARGV do
  if ARGV[2] == '0' then redis.call('LPUSH', KEYS[3], ARGV[at]) else redis.call('ZADD', KEYS[4], due, ARGV[at]) end
end
return 1
