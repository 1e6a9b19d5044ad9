-- Removes a graph. KEYS: graph, paths, alarms, ends, graphs. ARGV: graph id.
local head = parse_head(redis.call('HGET', KEYS[1], '#'))
if head then remove_graph(KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], ARGV[1], head) end
return 1
