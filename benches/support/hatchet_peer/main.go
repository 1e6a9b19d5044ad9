// Hatchet's own worker and client for Go, measured beside ours: `worker`, or a word and a number.
//
//	bulk N     prints how many runs a second are started and awaited, N at once
//	latency N  prints the milliseconds of N runs, one after the other, from start to result
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"

	lower "github.com/hatchet-dev/hatchet/pkg/client"
	hatchet "github.com/hatchet-dev/hatchet/sdks/go"
)

// How many runs one call starts.
const portion = 500

type nothing struct{}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func main() {
	client := must(hatchet.NewClient())
	task := client.NewStandaloneTask("nothing", func(hatchet.Context, nothing) (nothing, error) { return nothing{}, nil })
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if os.Args[1] == "worker" {
		worker := must(client.NewWorker("bench", hatchet.WithWorkflows(task), hatchet.WithSlots(100)))
		if err := worker.StartBlocking(ctx); err != nil {
			panic(err)
		}
		return
	}
	number := must(strconv.Atoi(os.Args[2]))
	if os.Args[1] == "bulk" {
		fmt.Println(bulk(ctx, number))
		return
	}
	for range number {
		start := time.Now()
		must(task.Run(ctx, nothing{}))
		fmt.Println(time.Since(start).Seconds() * 1e3)
	}
}

// With the client below the SDK's RunMany, which sends a call for each run and, with so many, blocks on its own stream.
func bulk(ctx context.Context, number int) float64 {
	client := must(lower.New())
	ends := must(client.Subscribe().SubscribeToWorkflowRunEvents(ctx))
	runs := make([]*lower.WorkflowRun, number)
	for i := range runs {
		runs[i] = &lower.WorkflowRun{Name: "nothing", Input: nothing{}}
	}
	var open sync.WaitGroup
	start := time.Now()
	for len(runs) > 0 {
		now := min(portion, len(runs))
		for _, id := range must(client.Admin().BulkRunWorkflow(runs[:now])) {
			open.Add(1)
			var once sync.Once
			ended := func(lower.WorkflowRunEvent) error { once.Do(open.Done); return nil }
			if err := ends.AddWorkflowRun(id, id, ended); err != nil {
				panic(err)
			}
		}
		runs = runs[now:]
	}
	open.Wait()
	return float64(number) / time.Since(start).Seconds()
}
