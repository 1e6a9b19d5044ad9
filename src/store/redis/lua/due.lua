-- Finds the alarms of one bucket that have rung, and clears away some graphs whose time is over.
-- KEYS: alarms, ends, graphs. ARGV: how many alarms, how many graphs, what the keys of a graph and of its paths begin
-- with.
-- Answers: {now, member, moment, ...}, the longest overdue first.
local now = clock()
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', whole(now), 'LIMIT', 0, ARGV[2])) do
  local graph, paths = ARGV[3] .. id, ARGV[4] .. id
  local head = parse_head(redis.call('HGET', graph, '#'))
  -- The server has removed the keys by itself if nobody looked for long. Then no alarm of the graph is known, and each
  -- goes when it is met.
  if not head or is_over(head, now) then
    remove_graph(graph, paths, KEYS[1], KEYS[2], KEYS[3], id, head or { alarms = 0 })
  end
end
local answer = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', whole(now), 'WITHSCORES', 'LIMIT', 0, ARGV[1])
table.insert(answer, 1, now)
return answer
