-- Takes messages off lists and notes them among those that are not acknowledged, in one step: whoever dies has lost none of
-- them. The notes are those of kombu, so anybody can bring them back.
-- KEYS: unacked messages, their times, what was taken last, then lists. ARGV: how many at most, the name of this take,
-- whether the same was asked before (1 or 0), for how many seconds that is remembered, then the queue of each list.
-- Answers in turn: the queue, or '' if what follows is a whole note; the tag, or '' for what is no message; the text.
local t = redis.call('TIME')
local now = string.format('%d.%06d', t[1], t[2])
local most, name = tonumber(ARGV[1]), ARGV[2]
local answer, tags, notes, times = {}, {}, {}, {}

-- An answer that was lost is given again.
if ARGV[3] == '1' then
  local last = redis.call('GET', KEYS[3])
  if last and string.sub(last, 1, #name + 1) == name .. '\n' then
    for _, tag in ipairs(cjson.decode(string.sub(last, #name + 2))) do
      local note = redis.call('HGET', KEYS[1], tag)
      if note then
        answer[#answer + 1] = ''
        answer[#answer + 1] = tag
        answer[#answer + 1] = note
      end
    end
    return answer
  end
end

local function text(value, or_else)
  return type(value) == 'string' and value or or_else
end

local seen = {}
local function take(queue, message)
  local ok, read = pcall(cjson.decode, message)
  answer[#answer + 1] = queue
  if not ok or type(read) ~= 'table' then
    -- Noted, it would break whoever brings it back.
    answer[#answer + 1] = ''
  else
    local properties = type(read.properties) == 'table' and read.properties or {}
    local info = type(properties.delivery_info) == 'table' and properties.delivery_info or {}
    local tag = text(properties.delivery_tag, '')
    -- Copies of one message in several queues have one tag.
    if tag == '' or seen[tag] or redis.call('HEXISTS', KEYS[1], tag) == 1 then tag = name .. '-' .. #answer end
    seen[tag] = true
    local exchange, key = text(info.exchange, ''), text(info.routing_key, queue)
    -- Straight to a queue is back to this one.
    if exchange == '' then key = queue end
    notes[#notes + 1] = tag
    notes[#notes + 1] = '[' .. message .. ',' .. cjson.encode(exchange) .. ',' .. cjson.encode(key) .. ']'
    times[#times + 1] = now
    times[#times + 1] = tag
    tags[#tags + 1] = tag
    answer[#answer + 1] = tag
  end
  answer[#answer + 1] = message
end

local left = most
for at = 4, #KEYS do
  if left <= 0 then break end
  for _, message in ipairs(redis.call('RPOP', KEYS[at], left) or {}) do
    take(ARGV[at + 1], message)
    left = left - 1
  end
end
if #tags > 0 then
  redis.call('HSET', KEYS[1], unpack(notes))
  redis.call('ZADD', KEYS[2], unpack(times))
  redis.call('SET', KEYS[3], name .. '\n' .. cjson.encode(tags), 'EX', ARGV[4])
end
return answer
