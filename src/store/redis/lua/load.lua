-- Reads records, and the states of others.
-- KEYS: graph. ARGV: number of records, their paths, paths of which only the state is wanted.
-- Answers: now, for each record {state, plan, input, outcome, events} or false, for each other one its state or false.
local now = clock()
local fields, count = { '#' }, tonumber(ARGV[1])
for index = 2, count + 1 do
  local path = ARGV[index]
  local at = #fields
  fields[at + 1] = 's' .. path
  fields[at + 2] = 'p' .. path
  fields[at + 3] = 'i' .. path
  fields[at + 4] = 'o' .. path
  fields[at + 5] = 'q' .. path
end
for index = count + 2, #ARGV do fields[#fields + 1] = 's' .. ARGV[index] end

local found = {}
for start = 1, #fields, PAGE do
  local page = redis.call('HMGET', KEYS[1], unpack(fields, start, math.min(start + PAGE - 1, #fields)))
  for index = 1, #page do found[start + index - 1] = page[index] end
end
local head = parse_head(found[1])
local answer = { now }
if not head or is_over(head, now) then
  for index = 2, #ARGV do answer[index] = false end
  return answer
end
for index = 1, count do
  local at = 5 * index - 3
  if found[at] then
    local events = false
    if found[at + 4] then
      local first, last = string.match(found[at + 4], '^(%d+) (%d+)$')
      first, last = tonumber(first), math.min(tonumber(last), tonumber(first) + PAGE)
      local names = {}
      for number = first, last - 1 do names[#names + 1] = 'e' .. ARGV[index + 1] .. ':' .. whole(number) end
      if #names > 0 then events = redis.call('HMGET', KEYS[1], unpack(names)) end
    end
    answer[index + 1] = { found[at], found[at + 1], found[at + 2], found[at + 3], events }
  else
    answer[index + 1] = false
  end
end
for index = count + 2, #ARGV do answer[index] = found[4 * count + index] end
return answer
