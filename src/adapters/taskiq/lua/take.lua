-- Takes messages off a list and leases them, in one step: whoever dies has lost none of them.
-- KEYS: list, taken messages, leases. ARGV: consumer, number of the first one, how many at most, ms of the lease, whether
-- the same was asked before (1 or 0). Answers names and messages in turn.
local t = redis.call('TIME')
local ends = string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000) + tonumber(ARGV[4]))
local names, free = {}, {}
for number = tonumber(ARGV[2]), tonumber(ARGV[2]) + tonumber(ARGV[3]) - 1 do
  names[#names + 1] = ARGV[1] .. ':' .. string.format('%.0f', number)
end
local answer, taken, leases = {}, {}, {}
local function give(name, message)
  leases[#leases + 1] = ends
  leases[#leases + 1] = name
  answer[#answer + 1] = name
  answer[#answer + 1] = message
end
-- An answer that was lost is given again.
if ARGV[5] == '1' then
  for at, message in ipairs(redis.call('HMGET', KEYS[2], unpack(names))) do
    if message then give(names[at], message) else free[#free + 1] = names[at] end
  end
else
  free = names
end
for at, message in ipairs(#free > 0 and redis.call('RPOP', KEYS[1], #free) or {}) do
  taken[#taken + 1] = free[at]
  taken[#taken + 1] = message
  give(free[at], message)
end
if #taken > 0 then redis.call('HSET', KEYS[2], unpack(taken)) end
if #leases > 0 then redis.call('ZADD', KEYS[3], unpack(leases)) end
return answer
