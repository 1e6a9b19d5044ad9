-- What the scripts share. It is put before each of them.

-- The server's clock in milliseconds.
local function clock()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

-- Lua would print large numbers with an exponent.
local function whole(number)
  return string.format('%.0f', number)
end

-- The field `#` of a graph: how many records are live, when it ends (0: not by itself), how many records it has, how
-- many paths are listed, how many records have an alarm.
local function parse_head(text)
  if not text then return nil end
  local live, over, records, listed, alarms = string.match(text, '^(%-?%d+) (%d+) (%d+) (%d+) (%d+)$')
  return { live = tonumber(live), over = tonumber(over), records = tonumber(records), listed = tonumber(listed),
    alarms = tonumber(alarms) }
end

local function is_over(head, now)
  return head.over > 0 and head.over <= now
end

-- How a record is named where several graphs share a key.
local function member(id, path)
  if path == '' then return id end
  return id .. '/' .. path
end

-- The roots of a graph are in its field `#roots`: paths with a comma after each.
local function roots_of(text)
  local roots = {}
  for path in string.gmatch(text or '', '([^,]*),') do roots[#roots + 1] = path end
  return roots
end

local PAGE = 1000

-- Removes a graph with everything in it, and tells those who wait for something in it.
local function remove_graph(graph, paths, alarms, ends, graphs, id, head)
  local known = redis.call('HMGET', graph, '#roots', '#waits')
  local left = head.alarms
  local page = roots_of(known[1])
  local from = 0
  -- Nobody lists which records have an alarm. Their number is known, so the search ends early.
  while left > 0 and #page > 0 do
    for start = 1, #page, PAGE do
      local members = {}
      for index = start, math.min(start + PAGE - 1, #page) do members[#members + 1] = member(id, page[index]) end
      left = left - redis.call('ZREM', alarms, unpack(members))
    end
    page = redis.call('LRANGE', paths, from, from + PAGE - 1)
    from = from + PAGE
  end
  redis.call('UNLINK', graph, paths)
  redis.call('ZREM', ends, id)
  redis.call('ZREM', graphs, id)
  for channel in string.gmatch(known[2] or '', '%S+') do redis.call('PUBLISH', channel, id .. ' *') end
end
