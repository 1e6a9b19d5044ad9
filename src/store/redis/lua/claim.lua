-- Takes alarms of one bucket that have rung.
-- KEYS: alarms. ARGV: when they ring again, in ms from now; what the key of a graph begins with; then member and moment
-- of each.
-- Answers the members that were taken: those that nobody else took, and whose record is still there.
local now = clock()
local taken = {}
for index = 3, #ARGV, 2 do
  local name, moment = ARGV[index], ARGV[index + 1]
  local score = redis.call('ZSCORE', KEYS[1], name)
  if score and tonumber(score) == tonumber(moment) then
    local id, path = string.match(name, '^([^/]*)/?(.*)$')
    local graph = ARGV[2] .. id
    local found = redis.call('HMGET', graph, '#', 's' .. path)
    local head = parse_head(found[1])
    if head and found[2] and not is_over(head, now) then
      -- Later than now even for a claim of no time, or this would be found again and again.
      redis.call('ZADD', KEYS[1], whole(now + math.max(1, tonumber(ARGV[1]))), name)
      taken[#taken + 1] = name
    elseif not head then
      redis.call('ZREM', KEYS[1], name)
    end
  end
end
return taken
