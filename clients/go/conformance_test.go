package eventstream_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	eventstream "github.com/futoin/eventstream-rs/clients/go"
	"google.golang.org/genproto/googleapis/rpc/code"
)

// The cases of clients/conformance: the program judges, this only plays.
func TestConformance(t *testing.T) {
	program := need(t, "TEST_SCRIPTED")
	list, err := exec.CommandContext(t.Context(), program, "--list").Output()
	if err != nil {
		t.Fatalf("%s --list: %v", program, err)
	}
	cases := strings.Fields(string(list))
	if len(cases) == 0 {
		t.Fatal("no cases")
	}
	for _, name := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			play(t, program, name)
		})
	}
}

func play(t *testing.T, program, name string) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, program, "--case", name)
	var verdict bytes.Buffer
	command.Stderr = &verdict
	stdin, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	s := &scene{t: t, ctx: ctx, told: json.NewEncoder(stdin)}
	s.follow(stdout, stdin)
	if err := command.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, verdict.String())
	}
}

// scene is one case: actors, and what they report.
type scene struct {
	t      *testing.T
	ctx    context.Context
	mutex  sync.Mutex
	told   *json.Encoder
	actors map[string]*actor
	ended  sync.WaitGroup
}

type announcement struct {
	Address   string
	Receivers []role
}

type role struct {
	Name    string
	Kind    string
	Wait    bool
	Options settings
	Handler []handling
}

type handling struct {
	Event          int64
	Fail           any // so many calls, or "always"
	Wait           bool
	DeadLetterFail int `json:"dead_letter_fail"`
}

type instruction struct{ Tell, Receiver string }

// follow does what the program tells until every receiver has ended.
func (s *scene) follow(stdout io.Reader, stdin io.Closer) {
	lines := json.NewDecoder(bufio.NewReader(stdout))
	var first announcement
	if err := lines.Decode(&first); err != nil {
		s.t.Errorf("announcement: %v", err)
		return
	}
	client, err := eventstream.Dial("http://" + first.Address)
	if err != nil {
		s.t.Errorf("dial: %v", err)
		return
	}
	s.actors = make(map[string]*actor)
	s.ended.Add(len(first.Receivers))
	for _, role := range first.Receivers {
		s.actors[role.Name] = newActor(s, client, role)
		if !role.Wait {
			s.actors[role.Name].start()
		}
	}
	go func() {
		s.ended.Wait()
		client.Close() // with its streams, before the judge is told
		stdin.Close()
	}()
	for {
		var next instruction
		if err := lines.Decode(&next); err != nil {
			s.leave(err)
			return
		}
		s.actors[next.Receiver].told(next.Tell)
	}
}

// leave ends what runs where the program ended before its receivers.
func (s *scene) leave(err error) {
	if !errors.Is(err, io.EOF) {
		s.t.Errorf("instruction: %v", err)
	}
	for _, actor := range s.actors {
		actor.leave()
	}
	s.ended.Wait()
}

// say reports; when the program has left, its verdict tells why.
func (s *scene) say(line map[string]any) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	_ = s.told.Encode(line)
}

// ending is an error of Run as the conversation has it.
func ending(err error) any {
	var handler *eventstream.HandlerError
	var service *eventstream.Error
	switch {
	case err == nil || errors.Is(err, context.Canceled):
		return nil
	case errors.As(err, &handler):
		return map[string]any{"kind": "handler", "event": handler.Event.ID}
	case errors.As(err, &service):
		return map[string]any{"kind": "service", "code": code.Code(service.Code).String(), "reason": service.Reason}
	default:
		return map[string]any{"kind": err.Error()}
	}
}
