-- Removes consumers that have nothing and were not seen for long.
-- KEYS: stream. ARGV: group, what their names begin with, for how long in ms.
for _, facts in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local consumer = {}
  for at = 1, #facts, 2 do consumer[facts[at]] = facts[at + 1] end
  local is_ours = string.sub(consumer.name, 1, #ARGV[2]) == ARGV[2]
  if is_ours and consumer.pending == 0 and consumer.idle >= tonumber(ARGV[3]) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], consumer.name)
  end
end
return 1
