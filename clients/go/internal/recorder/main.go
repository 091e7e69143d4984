// Recorder prints the id of each event that its receiver handled, and stops
// after --count of them or when its stdin closes. See recorder.sh.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"time"

	eventstream "github.com/futoin/eventstream-rs/clients/go"
)

func main() {
	count := flag.Int("count", 0, "stop after so many events (0: never)")
	quiet := flag.Bool("quiet", false, "print no ids")
	address, component, err := arguments(os.Args[1:])
	if err == nil {
		err = record(address, component, *count, *quiet)
	}
	if err != nil {
		slog.Error("recorder", "error", err)
		os.Exit(1)
	}
}

// arguments come in any order: ADDRESS COMPONENT [--count N] [--quiet].
func arguments(all []string) (address, component string, err error) {
	var plain []string
	for len(all) > 0 {
		if err := flag.CommandLine.Parse(all); err != nil {
			return "", "", err
		}
		if all = flag.Args(); len(all) > 0 {
			plain, all = append(plain, all[0]), all[1:]
		}
	}
	if len(plain) != 2 {
		return "", "", fmt.Errorf("usage: recorder ADDRESS COMPONENT [--count N] [--quiet]")
	}
	if !strings.Contains(plain[0], ":/") && !strings.HasPrefix(plain[0], "unix:") {
		plain[0] = "http://" + plain[0]
	}
	return plain[0], plain[1], nil
}

func record(address, component string, count int, quiet bool) error {
	client, err := eventstream.Dial(address)
	if err != nil {
		return err
	}
	defer client.Close()
	receiver := client.Receive(component, eventstream.ReceiverOptions{Label: "recorder"})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // whatever ends it, nobody is there any more
		receiver.Stop()
	}()
	r := recording{quiet: quiet, count: count, stop: receiver.Stop}
	err = receiver.Run(context.Background(), r.handle)
	fmt.Fprintf(os.Stderr, "{\"events\": %d, \"seconds\": %.6f}\n", r.events, r.last.Sub(r.first).Seconds())
	return err
}

type recording struct {
	quiet       bool
	count       int
	stop        func()
	events      int
	first, last time.Time
	line        []byte
}

func (r *recording) handle(_ context.Context, event eventstream.Event) error {
	r.last = time.Now()
	if r.events++; r.events == 1 {
		r.first = r.last
	}
	if r.events == r.count {
		r.stop()
	}
	if r.quiet {
		return nil
	}
	r.line = append(strconv.AppendInt(r.line[:0], event.ID, 10), '\n')
	_, err := os.Stdout.Write(r.line)
	return err
}
