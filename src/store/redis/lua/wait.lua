-- Asks to be told of the next change of a record.
-- KEYS: graph. ARGV: path, version that is known, channel to be told on.
-- Answers: {1} if it has another version by now or is gone; else {0, ms until the graph ends, or -1}.
local now = clock()
local path, channel = ARGV[1], ARGV[3]
local found = redis.call('HMGET', KEYS[1], '#', 's' .. path, 'w' .. path, '#waits')
local head = parse_head(found[1])
if not head or is_over(head, now) or not found[2] or string.sub(found[2], 1, 16) ~= ARGV[2] then return { 1 } end
-- The record's own mark, and the graph's: an end of the graph is told to all who wait in it.
local marks, names = { found[3] or '', found[4] or '' }, { 'w' .. path, '#waits' }
for index = 1, 2 do
  if not string.find(' ' .. marks[index] .. ' ', ' ' .. channel .. ' ', 1, true) then
    local mark = marks[index] == '' and channel or marks[index] .. ' ' .. channel
    redis.call('HSET', KEYS[1], names[index], mark)
  end
end
return { 0, head.over > 0 and head.over - now or -1 }
