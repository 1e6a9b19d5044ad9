-- Takes messages off lists and notes them among those that are not acknowledged, in one step: whoever dies has lost none of
-- them. The notes are those of kombu, so anybody can bring them back: to the queue that they were in.
-- KEYS: unacked messages, their times, then lists. ARGV: how many at most, the name of this take, whether the same was asked
-- before (1 or 0), then the queue of each list.
-- Answers in turn: the queue, or '' if what follows is a whole note; the tag, or '' for what is no message; the text.
local most, name = tonumber(ARGV[1]), ARGV[2]
local answer, notes, times = {}, {}, {}

-- An answer that was lost is given again.
if ARGV[3] == '1' then
  for number = 1, most do
    local tag = name .. '-' .. number
    local note = redis.call('HGET', KEYS[1], tag)
    if note then
      answer[#answer + 1] = ''
      answer[#answer + 1] = tag
      answer[#answer + 1] = note
    end
  end
  if #answer > 0 then return answer end
end

-- What is no object would break a Python worker that brings it back. To read all of them would cost a third of the time.
local function is_message(text)
  if string.sub(text, 1, 1) == '{' and string.sub(text, -1) == '}' and string.find(text, '"properties"', 1, true) then
    return true
  end
  local ok, read = pcall(cjson.decode, text)
  return ok and type(read) == 'table' and string.find(text, '^%s*{') ~= nil
end

local t = redis.call('TIME')
local now = string.format('%d.%06d', t[1], t[2])
local number = 0
for at = 3, #KEYS do
  if number >= most then break end
  local route
  for _, text in ipairs(redis.call('RPOP', KEYS[at], most - number) or {}) do
    number = number + 1
    local tag = ''
    if is_message(text) then
      route = route or ',"",' .. cjson.encode(ARGV[at + 1]) .. ']'
      tag = name .. '-' .. number
      notes[#notes + 1] = tag
      notes[#notes + 1] = '[' .. text .. route
      times[#times + 1] = now
      times[#times + 1] = tag
    end
    answer[#answer + 1] = ARGV[at + 1]
    answer[#answer + 1] = tag
    answer[#answer + 1] = text
  end
end
if #notes > 0 then
  redis.call('HSET', KEYS[1], unpack(notes))
  redis.call('ZADD', KEYS[2], unpack(times))
end
return answer
