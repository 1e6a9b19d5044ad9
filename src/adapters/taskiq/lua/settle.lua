-- Takes an entry out of the hands of a consumer and, if it was there, puts a message in its place. Doing it twice does
-- nothing the second time.
-- KEYS: stream, held messages. ARGV: group, entry, whether to delete it (1 or 0), most entries (0: no limit), in how many ms (0: at once),
-- message.
if redis.call('XACK', KEYS[1], ARGV[1], ARGV[2]) == 0 then return 0 end
if ARGV[3] == '1' then redis.call('XDEL', KEYS[1], ARGV[2]) end
if ARGV[5] ~= '0' then
  local t = redis.call('TIME')
  local now = t[1] * 1000 + math.floor(t[2] / 1000)
  redis.call('ZADD', KEYS[2], string.format('%.0f', now + tonumber(ARGV[5])), ARGV[6])
elseif ARGV[4] == '0' then
  redis.call('XADD', KEYS[1], '*', 'data', ARGV[6])
else
  redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[4], '*', 'data', ARGV[6])
end
return 1
