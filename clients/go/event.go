package eventstream

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	evtv1 "github.com/futoin/eventstream-rs/clients/go/futoin/evt/v1"
)

// MaxDataBytes is the largest data of an event.
const MaxDataBytes = 8 << 20

// Event is one event of the stream.
type Event struct {
	ID   int64
	Type string
	// DataJSON is the data as the exact JSON text that was stored.
	DataJSON string
	// Time is when the event was stored, by the database's clock, for
	// reference only. Zero: unknown.
	Time time.Time
}

// Decode parses the data into v as json.Unmarshal does, but numbers that go
// into an interface become json.Number, so that integers stay exact.
func (e Event) Decode(v any) error {
	decoder := json.NewDecoder(strings.NewReader(e.DataJSON))
	decoder.UseNumber()
	if err := decoder.Decode(v); err != nil {
		return fmt.Errorf("eventstream: data of event %d: %w", e.ID, err)
	}
	return nil
}

// NewEvent is an event that is not stored yet.
type NewEvent struct {
	// Type matches ^[A-Z_]{1,16}$.
	Type string
	// Data is any value that encoding/json encodes, or a json.RawMessage,
	// which is ready JSON text and stored as given. At most MaxDataBytes as
	// text.
	Data any
}

var eventType = regexp.MustCompile(`^[A-Z_]{1,16}$`)

// text checks the event and returns its data as JSON text.
func (e NewEvent) text() (string, error) {
	if !eventType.MatchString(e.Type) {
		return "", invalid("type", "must match ^[A-Z_]{1,16}$")
	}
	text, err := jsonText(e.Data)
	if err != nil {
		return "", err
	}
	if len(text) > MaxDataBytes {
		return "", invalid("data_json", fmt.Sprintf("must be at most %d bytes", MaxDataBytes))
	}
	return text, nil
}

func jsonText(data any) (string, error) {
	switch data := data.(type) {
	case json.RawMessage:
		if !utf8.Valid(data) || !json.Valid(data) {
			return "", invalid("data_json", "must be well-formed JSON in UTF-8")
		}
		return string(data), nil
	case []byte:
		return "", invalid("data_json", "must not be []byte: JSON text is a json.RawMessage")
	}
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(data); err != nil {
		return "", invalid("data_json", "must be a value that encoding/json encodes: "+err.Error())
	}
	return strings.TrimSuffix(text.String(), "\n"), nil
}

func (e NewEvent) message() (*evtv1.NewEvent, error) {
	text, err := e.text()
	if err != nil {
		return nil, err
	}
	return &evtv1.NewEvent{Type: e.Type, DataJson: text}, nil
}

func eventsOf(messages []*evtv1.Event) []Event {
	events := make([]Event, len(messages))
	for i, message := range messages {
		events[i] = Event{ID: message.GetId(), Type: message.GetType(), DataJSON: message.GetDataJson()}
		if message.GetTs() != nil {
			events[i].Time = message.GetTs().AsTime()
		}
	}
	return events
}
