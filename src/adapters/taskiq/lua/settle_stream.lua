-- Takes an entry out of the hands of a consumer and, if it was there, puts others in its place. Doing it twice does nothing
-- the second time.
-- KEYS: stream, stream of what is put, its held messages. ARGV: group, entry, whether to delete it (1 or 0), most entries (0: no limit), in how many
-- ms (0: at once), messages.
if redis.call('XACK', KEYS[1], ARGV[1], ARGV[2]) == 0 then return 0 end
if ARGV[3] == '1' then redis.call('XDEL', KEYS[1], ARGV[2]) end
local t = redis.call('TIME')
local due = string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000) + tonumber(ARGV[5]))
for at = 6, #ARGV do
  if ARGV[5] ~= '0' then
    redis.call('ZADD', KEYS[3], due, ARGV[at])
  elseif ARGV[4] == '0' then
    redis.call('XADD', KEYS[2], '*', 'data', ARGV[at])
  else
    redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[4], '*', 'data', ARGV[at])
  end
end
return 1
