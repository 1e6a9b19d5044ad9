-- Lists the records of one bucket, from a place on.
-- KEYS: graphs. ARGV: what the keys of a graph and of its paths begin with, how many, whether only roots (1 or 0), graph
-- to begin with (empty: the first), how many of its places are known.
-- Answers: {next graph or empty, places known of it, member, ...}. A place is a root or a listed path; those whose record
-- was deleted count but are left out.
local now = clock()
local limit, roots_only = tonumber(ARGV[3]), ARGV[4] == '1'
local from = ARGV[5] == '' and '-' or '[' .. ARGV[5]
local found, looked = {}, 0
local ids = redis.call('ZRANGEBYLEX', KEYS[1], from, '+', 'LIMIT', 0, limit + 1)
for _, id in ipairs(ids) do
  -- Of each graph at least one place is looked at.
  if looked >= limit then return { id, 0, unpack(found) } end
  local graph, paths = ARGV[1] .. id, ARGV[2] .. id
  local place = id == ARGV[5] and tonumber(ARGV[6]) or 0
  local known = redis.call('HMGET', graph, '#', '#roots')
  local head = parse_head(known[1])
  if head and not is_over(head, now) then
    local roots = roots_of(known[2])
    local total = #roots + (roots_only and 0 or head.listed)
    while place < total do
      if looked >= limit then return { id, place, unpack(found) } end
      local many, page = math.min(limit - looked, PAGE), {}
      if place < #roots then
        for index = place + 1, math.min(place + many, #roots) do page[#page + 1] = roots[index] end
      else
        page = redis.call('LRANGE', paths, place - #roots, place - #roots + many - 1)
        if #page == 0 then break end
      end
      local fields = {}
      for index = 1, #page do fields[index] = 's' .. page[index] end
      local states = redis.call('HMGET', graph, unpack(fields))
      for index = 1, #page do
        if states[index] then found[#found + 1] = member(id, page[index]) end
      end
      place = place + #page
      looked = looked + #page
    end
  end
end
if #ids > limit then return { ids[#ids], 0, unpack(found) } end
return { '', 0, unpack(found) }
