-- Writes all or nothing.
-- KEYS: graph, paths, alarms, ends, graphs.
-- ARGV: graph id, commit id, whether an earlier try may have been carried out (1 or 0), change of the number of live
-- records, how long to keep the graph (ms), how long its keys outlive that (ms), then the writes:
--   c path alarm plan state input outcome     create
--   u path version drained alarm state input outcome     update
--   a path event alarm     append
--   k path version     check
--   d path     delete
-- An alarm is in ms from now, or empty. Of input and outcome, empty is unchanged and `-` is none.
-- Answers: {1, now, version and waiting flag for each write}; {0, now, path of the first conflict}; or {2, now, path}
-- where it is not known any more whether an earlier try was carried out.
local graph, paths, alarms, ends, graphs = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local id, commit, again = ARGV[1], ARGV[2], ARGV[3] == '1'
local live, keep, outlive = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local WIDTH = { c = 5, u = 6, a = 2, k = 1, d = 0 }
-- Which fields a write has to know.
local KNOWS = { c = { 's', 'x' }, u = { 's', 'q', 'w' }, a = { 's', 'q' }, k = { 's' }, d = { 's', 'q', 'w' } }
if again then KNOWS.c[3], KNOWS.u[4], KNOWS.u[5], KNOWS.d[4] = 'p', 'i', 'o', 'x' end
-- How many versions before the present one a record is known to have had.
local EARLIER = 32

local now = clock()
local ops, at, count = {}, {}, 0
local fields, creates = { '#', '#roots', '#waits' }, false
do
  local index = 7
  while index <= #ARGV do
    local op, path = ARGV[index], ARGV[index + 1]
    count = count + 1
    ops[count], at[count] = op, index + 1
    local knows = KNOWS[op]
    for number = 1, #knows do fields[#fields + 1] = knows[number] .. path end
    creates = creates or op == 'c'
    index = index + 2 + WIDTH[op]
  end
end
local got = {}
for start = 1, #fields, PAGE do
  local last = math.min(start + PAGE - 1, #fields)
  local page = redis.call('HMGET', graph, unpack(fields, start, last))
  for index = start, last do got[fields[index]] = page[index - start + 1] end
end
local head = parse_head(got['#'])
if head and is_over(head, now) then
  remove_graph(graph, paths, alarms, ends, graphs, id, head)
  head, got = nil, {}
end

local function version(path)
  local row = got['s' .. path]
  return row and string.sub(row, 1, 16)
end

-- The versions of a record, the present one first, 16 digits each.
local function versions(path)
  return got['s' .. path] and string.match(got['s' .. path], '^%x*') or ''
end

local function has(list, wanted)
  for index = 1, #list, 16 do
    if string.sub(list, index, index + 15) == wanted then return true end
  end
  return false
end

local boxes = {}
-- The numbers of the oldest event of a record and of the next one.
local function box(path)
  local known = boxes[path]
  if not known then
    local text = got['q' .. path]
    known = { 0, 0 }
    if text then
      local first, last = string.match(text, '^(%d+) (%d+)$')
      known = { tonumber(first), tonumber(last) }
    end
    boxes[path] = known
  end
  return known
end

local function by_this_commit(field)
  return got[field] and string.sub(got[field], 1, 16) == commit
end

if again then
  -- Plan, input and outcome are written once, so they tell of this commit whatever came after it. So do the last versions
  -- of a record, and the mark of one that was deleted.
  local done, not_done, unknown = false, false, nil
  for index = 1, count do
    local op, path = ops[index], ARGV[at[index]]
    if op == 'c' then
      -- Once made it is there, or was deleted and has left its mark.
      if by_this_commit('p' .. path) then done = true elseif not got['x' .. path] then not_done = true end
    elseif op == 'd' then done = done or by_this_commit('x' .. path)
    elseif op == 'u' then
      local list = versions(path)
      done = done or has(list, commit) or by_this_commit('i' .. path) or by_this_commit('o' .. path)
      -- What came after the version that this commit expects is known, and it was not this commit.
      if has(list, ARGV[at[index] + 1]) then not_done = true
      elseif list ~= '' then unknown = path end
    end
  end
  if unknown and not done and not not_done then return { 2, now, unknown } end
  if done then
    local answer = { 1, now }
    for index = 1, count do
      local path = ARGV[at[index]]
      local events = box(path)
      -- Whether these were the ones that nobody was told of is not known any more; being told twice does no harm.
      local waiting = (ops[index] == 'a' or ops[index] == 'u') and events[1] < events[2]
      answer[index + 2] = version(path) and version(path) .. (waiting and '1' or '0') or ''
    end
    return answer
  end
end

for index = 1, count do
  local op, first = ops[index], at[index]
  local path, found = ARGV[first], version(ARGV[first])
  if (op == 'c' and found) or ((op == 'u' or op == 'k') and found ~= ARGV[first + 1]) then
    return { 0, now, path }
  end
end
if not head then
  if not creates then
    local answer = { 1, now }
    for index = 1, count do answer[index + 2] = '' end
    return answer
  end
  head = { live = 0, over = 0, records = 0, listed = 0, alarms = 0 }
  redis.call('ZADD', graphs, 0, id)
end

local put, puts, gone, listed = {}, 0, {}, {}
local function set(field, value)
  put[puts + 1], put[puts + 2] = field, value
  puts = puts + 2
end
-- The alarms that this commit sets or, where false, takes away; and those that it may only bring nearer.
local due, nearer = {}, {}
local dues = {}
local function alarm(path, moment)
  if due[path] == nil then dues[#dues + 1] = path end
  due[path] = moment
  nearer[path] = nil
end
local function wake(path)
  local channels = got['w' .. path]
  if not channels then return end
  for channel in string.gmatch(channels, '%S+') do redis.call('PUBLISH', channel, member(id, path)) end
  gone[#gone + 1] = 'w' .. path
end
local function moment(text)
  return text ~= '' and now + tonumber(text)
end
local function part(field, text)
  if text == '-' then gone[#gone + 1] = field
  elseif text ~= '' then set(field, commit .. text) end
end

local new_roots = ''
local waits, fresh = {}, {}
for index = 1, count do
  local op, first = ops[index], at[index]
  local path = ARGV[first]
  waits[index] = '0'
  if op == 'c' then
    part('p' .. path, ARGV[first + 2])
    set('s' .. path, commit .. ARGV[first + 3])
    part('i' .. path, ARGV[first + 4])
    part('o' .. path, ARGV[first + 5])
    got['s' .. path] = commit
    head.records = head.records + 1
    if got['x' .. path] then gone[#gone + 1] = 'x' .. path
    elseif path == '' or string.match(path, '^r%d+$') then new_roots = new_roots .. path .. ','
    else listed[#listed + 1] = path end
    if ARGV[first + 1] ~= '' then alarm(path, moment(ARGV[first + 1])) end
  elseif op == 'u' then
    set('s' .. path, commit .. string.sub(versions(path), 1, 16 * EARLIER) .. ARGV[first + 4])
    part('i' .. path, ARGV[first + 5])
    part('o' .. path, ARGV[first + 6])
    got['s' .. path] = commit
    local events = box(path)
    local rest = math.min(events[1] + tonumber(ARGV[first + 2]), events[2])
    local until_when = moment(ARGV[first + 3])
    if events[1] < events[2] then
      for number = events[1], rest - 1 do gone[#gone + 1] = 'e' .. path .. ':' .. whole(number) end
      events[1] = rest
      if rest < events[2] then
        -- Somebody still has to take in what remains.
        local field = 'e' .. path .. ':' .. whole(rest)
        local event = fresh[field] or redis.call('HGET', graph, field)
        local latest = tonumber(string.match(event, ' (%d+)$'))
        if not until_when or latest < until_when then until_when = latest end
        waits[index] = '1'
      end
    end
    alarm(path, until_when)
    wake(path)
  elseif op == 'a' then
    if got['s' .. path] then
      local events, when = box(path), moment(ARGV[first + 2])
      if events[1] == events[2] then waits[index] = '1' end
      local field = 'e' .. path .. ':' .. whole(events[2])
      fresh[field] = ARGV[first + 1] .. ' ' .. whole(when)
      set(field, fresh[field])
      events[2] = events[2] + 1
      if due[path] == nil then nearer[path] = math.min(nearer[path] or when, when)
      elseif not due[path] or when < due[path] then due[path] = when end
    end
  elseif op == 'd' and got['s' .. path] then
    for _, kind in ipairs({ 's', 'p', 'i', 'o', 'q' }) do gone[#gone + 1] = kind .. path end
    local events = box(path)
    for number = events[1], events[2] - 1 do gone[#gone + 1] = 'e' .. path .. ':' .. whole(number) end
    boxes[path], got['s' .. path] = nil, false
    set('x' .. path, commit)
    head.records = head.records - 1
    alarm(path, false)
    wake(path)
  end
end

local function in_pages(command, key, words, list, step)
  local answer = 0
  for start = 1, #list, step do
    local page = { unpack(list, start, math.min(start + step - 1, #list)) }
    for index = #words, 1, -1 do table.insert(page, 1, words[index]) end
    local changed = redis.call(command, key, unpack(page))
    answer = answer + changed
  end
  return answer
end

local later, never, sooner = {}, {}, {}
for _, path in ipairs(dues) do
  if due[path] then
    later[#later + 1], later[#later + 2] = whole(due[path]), member(id, path)
  else
    never[#never + 1] = member(id, path)
  end
end
for path, when in pairs(nearer) do
  sooner[#sooner + 1], sooner[#sooner + 2] = whole(when), member(id, path)
end
head.alarms = head.alarms + in_pages('ZADD', alarms, {}, later, PAGE) + in_pages('ZADD', alarms, { 'LT' }, sooner, PAGE)
  - in_pages('ZREM', alarms, {}, never, PAGE)

local answer = { 1, now }
for index = 1, count do
  local row = version(ARGV[at[index]])
  answer[index + 2] = row and row .. waits[index] or ''
end
if head.records == 0 then
  remove_graph(graph, paths, alarms, ends, graphs, id, head)
  return answer
end

for path, events in pairs(boxes) do
  -- The numbers go on where the inbox is empty, so that no two events ever have one.
  if events[2] > 0 then set('q' .. path, whole(events[1]) .. ' ' .. whole(events[2])) end
end
if new_roots ~= '' then set('#roots', (got['#roots'] or '') .. new_roots) end
if #listed > 0 then
  in_pages('RPUSH', paths, {}, listed, PAGE)
  head.listed = head.listed + #listed
end
head.live = head.live + live
local was_over = head.over
head.over = head.live > 0 and 0 or now + keep
set('#', whole(head.live) .. ' ' .. whole(head.over) .. ' ' .. whole(head.records) .. ' ' .. whole(head.listed) .. ' '
  .. whole(head.alarms))
if was_over == 0 and head.over > 0 and got['#waits'] then
  -- Whoever waits knows of no end: they are to look again.
  for channel in string.gmatch(got['#waits'], '%S+') do redis.call('PUBLISH', channel, id .. ' *') end
  gone[#gone + 1] = '#waits'
end
in_pages('HSET', graph, {}, put, PAGE)
if #gone > 0 then in_pages('HDEL', graph, {}, gone, PAGE) end
if head.over > 0 then
  redis.call('ZADD', ends, whole(head.over), id)
  redis.call('PEXPIREAT', graph, whole(head.over + outlive))
  if head.listed > 0 then redis.call('PEXPIREAT', paths, whole(head.over + outlive)) end
elseif was_over > 0 then
  redis.call('ZREM', ends, id)
  redis.call('PERSIST', graph)
  if head.listed > 0 then redis.call('PERSIST', paths) end
end
return answer
