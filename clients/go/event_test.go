package eventstream

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
)

func TestTextOfData(t *testing.T) {
	for _, c := range []struct {
		name string
		data any
		text string
	}{
		{"struct", struct {
			ID   int64  `json:"id"`
			Name string `json:"name"`
		}{9007199254740993, `"<tea> 🫖"`}, `{"id":9007199254740993,"name":"\"<tea> 🫖\""}`},
		{"nil", nil, `null`},
		{"text of a string", `{"a":1}`, `"{\"a\":1}"`},
		{"ready text", json.RawMessage(` {"a" : 1.10} `), ` {"a" : 1.10} `},
		{"deep", json.RawMessage(strings.Repeat("[", 4000) + strings.Repeat("]", 4000)),
			strings.Repeat("[", 4000) + strings.Repeat("]", 4000)},
	} {
		t.Run(c.name, func(t *testing.T) {
			text, err := NewEvent{Type: "A_B", Data: c.data}.text()
			if err != nil || text != c.text {
				t.Fatalf("%q, %v; want %q", text, err, c.text)
			}
		})
	}
}

func TestRefusedBeforeItIsSent(t *testing.T) {
	large := json.RawMessage(`"` + strings.Repeat("x", MaxDataBytes) + `"`)
	for _, c := range []struct {
		name  string
		event NewEvent
		field string
		rule  string
	}{
		{"no type", NewEvent{"", 1}, "type", "^[A-Z_]{1,16}$"},
		{"small letters", NewEvent{"order", 1}, "type", "^[A-Z_]{1,16}$"},
		{"line break", NewEvent{"ORDER\n", 1}, "type", "^[A-Z_]{1,16}$"},
		{"17 letters", NewEvent{strings.Repeat("A", 17), 1}, "type", "^[A-Z_]{1,16}$"},
		{"too large", NewEvent{"A", large}, "data_json", "8388608 bytes"},
		{"cut", NewEvent{"A", json.RawMessage(`{"a":`)}, "data_json", "well-formed"},
		{"nothing", NewEvent{"A", json.RawMessage{}}, "data_json", "well-formed"},
		{"not UTF-8", NewEvent{"A", json.RawMessage("\"\xff\"")}, "data_json", "UTF-8"},
		{"bytes", NewEvent{"A", []byte(`{}`)}, "data_json", "RawMessage"},
		{"a channel", NewEvent{"A", make(chan int)}, "data_json", "encoding/json"},
		{"not a number", NewEvent{"A", math.NaN()}, "data_json", "encoding/json"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := c.event.text()
			var refused *Error
			if !errors.As(err, &refused) || refused.Code != codes.InvalidArgument || refused.Reason != InvalidField {
				t.Fatalf("%v", err)
			}
			if refused.Field != c.field || !strings.Contains(refused.Rule, c.rule) {
				t.Fatalf("%s: %s", refused.Field, refused.Rule)
			}
		})
	}
}

func TestDecodeKeepsIntegers(t *testing.T) {
	event := Event{ID: 1, DataJSON: `{"n":9007199254740993}`}
	var data map[string]any
	if err := event.Decode(&data); err != nil {
		t.Fatal(err)
	}
	if n := data["n"]; n != json.Number("9007199254740993") {
		t.Fatalf("%v (%T)", n, n)
	}
	var typed struct{ N int64 }
	if err := event.Decode(&typed); err != nil || typed.N != 9007199254740993 {
		t.Fatalf("%v, %v", typed.N, err)
	}
	if err := event.Decode(new(string)); err == nil || !strings.Contains(err.Error(), "event 1") {
		t.Fatalf("%v", err)
	}
}

func TestBackoffGrowsToItsMaximum(t *testing.T) {
	b := Backoff{Initial: 20 * time.Millisecond, Max: 70 * time.Millisecond}
	for attempt, most := range map[int]time.Duration{1: 20, 2: 40, 3: 70, 4: 70, 1000: 70} {
		most *= time.Millisecond
		for range 100 {
			if d := b.delay(attempt, 0); d < most/2 || d > most {
				t.Fatalf("attempt %d: %s", attempt, d)
			}
		}
	}
	if d := b.delay(1, time.Second); d != time.Second {
		t.Fatalf("%s in spite of RetryInfo", d)
	}
	if d := (Backoff{}).delay(1, 0); d < 50*time.Millisecond || d > 100*time.Millisecond {
		t.Fatalf("%s by default", d)
	}
}

func TestAddresses(t *testing.T) {
	for address, want := range map[string]string{
		"http://localhost:50051":    "dns:///localhost:50051",
		"http://shop":               "dns:///shop:80",
		"https://shop/":             "dns:///shop:443",
		"https://[::1]:50051":       "dns:///[::1]:50051",
		"unix:/run/events.sock":     "unix:/run/events.sock",
		"unix:///run/events.sock":   "unix:///run/events.sock",
		"localhost:50051":           "",
		"ftp://localhost":           "",
		"http://":                   "",
		"http://localhost:1/stream": "",
	} {
		target, secure, err := parseAddress(address)
		if target != want || (err == nil) != (want != "") || secure != (strings.HasPrefix(address, "https:") && err == nil) {
			t.Errorf("%s: %q, %t, %v", address, target, secure, err)
		}
	}
}

func TestEmptyGroupsMeltIntoOne(t *testing.T) {
	q := newQueue(false)
	q.push(t.Context(), group{events: []Event{{ID: 1}}, lastID: 1})
	for id := range int64(1000) {
		q.push(t.Context(), group{lastID: 2 + id})
	}
	groups, err := q.take(t.Context())
	if err != nil || len(groups) != 1 || groups[0].lastID != 1001 {
		t.Fatalf("%v, %v", groups, err)
	}
}
